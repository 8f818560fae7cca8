-- What this installation is called; one row, written at the first start.
CREATE TABLE service (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    project_id   TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    service_uuid TEXT NOT NULL,
    type_id      TEXT NOT NULL
) STRICT;

CREATE TABLE volumes (
    -- Never reused: it numbers the volume's iSCSI target.
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    name              TEXT,
    description       TEXT,
    size_gib          INTEGER NOT NULL CHECK (size_gib > 0),
    status            TEXT NOT NULL,
    multiattach       INTEGER NOT NULL,
    availability_zone TEXT NOT NULL,
    metadata          TEXT NOT NULL,
    created_at_us     INTEGER NOT NULL,
    updated_at_us     INTEGER
) STRICT;
CREATE INDEX volumes_by_status ON volumes (status);
CREATE INDEX volumes_by_name ON volumes (name);

CREATE TABLE attachments (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    volume_id      TEXT NOT NULL REFERENCES volumes (id),
    instance_id    TEXT,
    status         TEXT NOT NULL,
    mode           TEXT NOT NULL,
    connector      TEXT,
    chap_username  TEXT,
    chap_password  TEXT,
    created_at_us  INTEGER NOT NULL,
    attached_at_us INTEGER
) STRICT;
CREATE INDEX attachments_by_volume ON attachments (volume_id);
CREATE INDEX attachments_by_instance ON attachments (instance_id);
