-- Since when an aggregate is parked, and what an operator wants done with it. Only the reader that has parked it writes
-- its rows, so the wish waits here until that reader does it, between two batches, and takes it away in the same
-- transaction.
ALTER TABLE parked
    ADD COLUMN parked_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN wish      jsonb,
    -- A process is parked because of an event of any stream that it looks at; a view's row is about its own stream.
    ADD COLUMN event_stream_id text COLLATE "C";

-- Events that a projection leaves out for ever, in every epoch. An event is known by its command too: after a repair of
-- the log its version may be another's.
CREATE TABLE skipped (
    projection text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    stream_id  text COLLATE "C" NOT NULL,
    version    int8 NOT NULL,
    command_id uuid NOT NULL,
    partition  int4 NOT NULL,
    "offset"   int8 NOT NULL,
    obstacle   text NOT NULL,
    reason     text NOT NULL,
    skipped_by text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, stream_id, version, command_id)
);
