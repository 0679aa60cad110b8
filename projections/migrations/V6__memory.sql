-- Which memory the server has. It empties an unlogged table whenever it may have lost what was committed: after a crash,
-- and after a failover to a copy. Whoever meets another id than before must not believe any more what it keeps in
-- memory of how far it is. One row, made again where it is missing.
CREATE UNLOGGED TABLE server_memory (
    only_one bool PRIMARY KEY DEFAULT true CHECK (only_one),
    id       uuid NOT NULL DEFAULT gen_random_uuid()
);
