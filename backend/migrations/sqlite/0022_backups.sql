-- What backups tell beyond what was foreseen. A backup's `manifest` is the SHA-256 of its manifest in the store: what is there is
-- believed only where it has that.
ALTER TABLE backups ADD COLUMN availability_zone TEXT NOT NULL DEFAULT '';
ALTER TABLE backups ADD COLUMN restore_volume_id TEXT;

CREATE INDEX backups_by_parent ON backups (parent_id);
