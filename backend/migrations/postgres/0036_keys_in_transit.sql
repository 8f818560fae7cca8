-- A key that a Barbican has is here only while an operation needs it: what such operations left goes.
DELETE FROM volume_keys WHERE kept = 0
    AND owner_id NOT IN (SELECT object_id FROM operations WHERE state IN ('queued', 'running'));
