-- Why the storage of a volume service cannot be used, where that is so.
ALTER TABLE services ADD COLUMN problem TEXT;
