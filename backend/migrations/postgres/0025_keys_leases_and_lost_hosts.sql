-- Who has a key's first request in hand, and what that request made, so that a repeated one makes nothing again.
ALTER TABLE idempotency_keys ADD COLUMN process TEXT NOT NULL DEFAULT '';
-- Whoever holds the row's fence may make things for the key; another's changes are thrown away.
ALTER TABLE idempotency_keys ADD COLUMN fence TEXT NOT NULL DEFAULT '';
ALTER TABLE idempotency_keys ADD COLUMN object_type TEXT;
ALTER TABLE idempotency_keys ADD COLUMN object_id TEXT;
ALTER TABLE idempotency_keys ADD COLUMN operation_id TEXT;
ALTER TABLE idempotency_keys ADD COLUMN effect_at_us BIGINT;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at_us);

-- The host that said it would keep an attachment's lease, and since when it has not.
ALTER TABLE attachments ADD COLUMN lease_host TEXT;
ALTER TABLE attachments ADD COLUMN lease_lost_at_us BIGINT;
CREATE INDEX attachments_by_lease ON attachments (lease_until_us);

-- An administrator said that it will not come back.
ALTER TABLE services ADD COLUMN gone_at_us BIGINT;
