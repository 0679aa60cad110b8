-- What long streams were folded to, so that nobody reads their whole history again. A cache: every row may be deleted at
-- any time, only its writer can read it, and it is believed only as far as its checksum and the journal go with it. It
-- ends with the commit at this place, whose first event has this version.
CREATE TABLE snapshot (
    tenant_id    text COLLATE "C" NOT NULL,
    stream_id    text COLLATE "C" PRIMARY KEY,
    from_version int8 NOT NULL,
    partition    int4 NOT NULL,
    "offset"     int8 NOT NULL,
    data         bytea NOT NULL
);
