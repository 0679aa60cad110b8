-- Who is there and who does what, when several nodes share a log. All times are this database's: the nodes' clocks
-- decide nothing. Losing these tables costs time, never truth: what counts the log says.

-- The running nodes. Each says again and again that it is there.
CREATE TABLE member (
    id       uuid PRIMARY KEY,
    node     text NOT NULL,
    address  text NOT NULL,
    commands bool NOT NULL,
    until    timestamptz NOT NULL
);

-- Who does what only one may do: `partition/N`, `projections`, `sagas`. Without a holder it is free. The epoch never
-- goes down; a claim on the log under a lease has at least its epoch.
CREATE TABLE lease (
    duty    text COLLATE "C" PRIMARY KEY,
    epoch   int8 NOT NULL,
    holder  uuid,
    node    text NOT NULL,
    address text NOT NULL,
    until   timestamptz NOT NULL
);
