-- A backup cannot be deleted while a volume is being made from it.
CREATE INDEX volumes_by_backup ON volumes (backup_id);
