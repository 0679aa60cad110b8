-- What `shopstream log repair` did: which way was taken, from where on, and how much was lost or appended again.
CREATE TABLE log_repair (
    repaired_at timestamptz NOT NULL DEFAULT now(),
    log_id      uuid NOT NULL,
    partition   int4 NOT NULL,
    way         text NOT NULL,
    kept_to     int8 NOT NULL,
    lost        int8 NOT NULL,
    appended    int8 NOT NULL,
    conflicting int8 NOT NULL,
    PRIMARY KEY (repaired_at, partition)
);
