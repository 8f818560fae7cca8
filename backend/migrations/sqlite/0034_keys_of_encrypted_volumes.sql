-- The keys of encrypted volumes and of their backups, each encrypted under a master key that is not in here. Where the keys are in
-- a Barbican (kept = 0), a row is here only until its volume is made.
CREATE TABLE volume_keys (
    -- The key manager's id.
    id            TEXT PRIMARY KEY,
    -- The volume or backup that it opens.
    owner_id      TEXT NOT NULL UNIQUE,
    sealed        TEXT NOT NULL,
    kept          INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL
);
ALTER TABLE backups ADD COLUMN encryption_key_id TEXT;
-- What its volume was of: an encrypted backup makes a volume of that type, where nothing else is asked for.
ALTER TABLE backups ADD COLUMN volume_type_id TEXT;
