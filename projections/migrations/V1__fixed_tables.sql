-- The tables that are the same in every epoch. Each view's own tables are made by its code, in a schema per epoch.

-- Which log all of this was filled from. One row.
CREATE TABLE log_identity (
    only_one   bool PRIMARY KEY DEFAULT true CHECK (only_one),
    log_id     uuid NOT NULL,
    generation int8 NOT NULL,
    partitions int4 NOT NULL
);

-- Which epoch of each view answers queries.
CREATE TABLE read_model (
    projection   text COLLATE "C" PRIMARY KEY,
    active_epoch int4 NOT NULL
);

-- Which epochs there are, and the statements that made their tables: a program whose statements differ must not
-- write to them.
CREATE TABLE read_model_epoch (
    projection text COLLATE "C" NOT NULL,
    epoch      int4 NOT NULL,
    tables     text NOT NULL,
    PRIMARY KEY (projection, epoch)
);

-- How far a reader of the log has come. The cursor is one value, compared and swapped as a whole; next_offset
-- repeats a part of it for people.
CREATE TABLE checkpoint (
    reader      text COLLATE "C" NOT NULL,
    epoch       int4 NOT NULL,
    partition   int4 NOT NULL,
    next_offset int8 NOT NULL,
    cursor      jsonb NOT NULL,
    PRIMARY KEY (reader, epoch, partition)
) WITH (fillfactor = 50);

-- Aggregates that a view cannot go on with: everything from this version on waits.
CREATE TABLE parked (
    projection   text COLLATE "C" NOT NULL,
    epoch        int4 NOT NULL,
    tenant_id    text COLLATE "C" NOT NULL,
    stream_id    text COLLATE "C" NOT NULL,
    from_version int8 NOT NULL,
    partition    int4 NOT NULL,
    "offset"     int8 NOT NULL,
    reason       text NOT NULL,
    PRIMARY KEY (projection, epoch, stream_id)
);

-- An index of the log by stream, a row per event. The stream's name begins with its tenant. The payload is of type
-- json, not jsonb: it comes back byte for byte as the log has it.
CREATE TABLE journal (
    tenant_id       text COLLATE "C" NOT NULL,
    stream_id       text COLLATE "C" NOT NULL,
    version         int8 NOT NULL,
    event_type      text COLLATE "C" NOT NULL,
    schema_version  int4 NOT NULL,
    payload         json NOT NULL,
    partition       int4 NOT NULL,
    "offset"        int8 NOT NULL,
    index_in_commit int4 NOT NULL,
    epoch           int8 NOT NULL,
    command_id      uuid NOT NULL,
    body_hash       int8 NOT NULL,
    actor           text NOT NULL,
    correlation_id  text NOT NULL,
    causation_id    text NOT NULL,
    traceparent     text NOT NULL,
    recorded_at     timestamptz NOT NULL,
    effective_at    timestamptz,
    PRIMARY KEY (stream_id, version)
);
CREATE UNIQUE INDEX journal_command ON journal (stream_id, command_id) WHERE index_in_commit = 0;
CREATE INDEX journal_position ON journal (partition, "offset");
CREATE INDEX journal_stream ON journal (partition, stream_id) WHERE version = 1;

-- The journal in the columns that postgres-es reads.
CREATE VIEW events AS
SELECT split_part(stream_id, '/', 2) AS aggregate_type,
       tenant_id || '/' || split_part(stream_id, '/', 3) AS aggregate_id,
       version AS sequence,
       event_type,
       schema_version::text AS event_version,
       payload,
       json_build_object(
           'command_id', command_id,
           'actor', actor,
           'correlation_id', correlation_id,
           'causation_id', causation_id,
           'recorded_at', recorded_at,
           'effective_at', effective_at,
           'partition', partition,
           'offset', "offset"
       ) AS metadata
FROM journal;
