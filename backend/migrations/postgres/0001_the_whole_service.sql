-- What the service knows. The same tables and columns as ../sqlite has; a test compares them.
-- Truth values are 0 and 1, documents are JSON text, times are microseconds since the epoch, on both engines.

-- What this installation is called; one row, written at the first start.
CREATE TABLE service (
    "only"       BIGINT PRIMARY KEY CHECK ("only" = 1),
    project_id   TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    service_uuid TEXT NOT NULL,
    type_id      TEXT NOT NULL
);

CREATE TABLE volumes (
    -- Never reused: it numbers the volume's iSCSI target.
    seq               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                TEXT NOT NULL UNIQUE,
    name              TEXT,
    description       TEXT,
    size_gib          BIGINT NOT NULL CHECK (size_gib > 0),
    status            TEXT NOT NULL,
    multiattach       BIGINT NOT NULL,
    availability_zone TEXT NOT NULL,
    metadata          TEXT NOT NULL,
    created_at_us     BIGINT NOT NULL,
    updated_at_us     BIGINT,
    project_id        TEXT NOT NULL DEFAULT '',
    user_id           TEXT NOT NULL DEFAULT '',
    -- host@backend#pool; '' until the scheduler has chosen.
    host              TEXT NOT NULL DEFAULT '',
    volume_type_id    TEXT,
    bootable          BIGINT NOT NULL DEFAULT 0,
    readonly          BIGINT NOT NULL DEFAULT 0,
    encryption_key_id TEXT,
    image_metadata    TEXT,
    admin_metadata    TEXT,
    snapshot_id       TEXT,
    source_volume_id  TEXT,
    image_id          TEXT,
    backup_id         TEXT,
    group_id          TEXT,
    migration_status  TEXT,
    -- The id the storage knows it by, where that is not its own: after a migration.
    name_id           TEXT,
    previous_status   TEXT,
    provider          TEXT,
    consumes_quota    BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX volumes_by_status ON volumes (status);
CREATE INDEX volumes_by_name ON volumes (name);
CREATE INDEX volumes_by_project ON volumes (project_id, seq);
CREATE INDEX volumes_by_host ON volumes (host);

CREATE TABLE attachments (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    volume_id      TEXT NOT NULL REFERENCES volumes (id),
    instance_id    TEXT,
    status         TEXT NOT NULL,
    mode           TEXT NOT NULL,
    connector      TEXT,
    chap_username  TEXT,
    chap_password  TEXT,
    created_at_us  BIGINT NOT NULL,
    attached_at_us BIGINT,
    project_id     TEXT NOT NULL DEFAULT '',
    -- What the host is told, without the secrets.
    connection     TEXT,
    -- Until when its host may stay silent.
    lease_until_us BIGINT
);
CREATE INDEX attachments_by_volume ON attachments (volume_id);
CREATE INDEX attachments_by_instance ON attachments (instance_id);

CREATE TABLE domains (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    enabled     BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE projects (
    id          TEXT PRIMARY KEY,
    domain_id   TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT,
    enabled     BIGINT NOT NULL DEFAULT 1,
    UNIQUE (domain_id, name)
);

CREATE TABLE users (
    id              TEXT PRIMARY KEY,
    domain_id       TEXT NOT NULL,
    name            TEXT NOT NULL,
    -- A salted, slow hash; null for one who cannot log in.
    password_hash   TEXT,
    enabled         BIGINT NOT NULL DEFAULT 1,
    default_project TEXT,
    UNIQUE (domain_id, name)
);

-- Who is what where. `scope` is a project's or a domain's id, or 'system'.
CREATE TABLE role_assignments (
    user_id TEXT NOT NULL REFERENCES users (id),
    scope   TEXT NOT NULL,
    role    TEXT NOT NULL,
    PRIMARY KEY (user_id, scope, role)
);

-- Tokens are kept as their SHA-256 digest only, in hex.
CREATE TABLE tokens (
    digest        TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id),
    project_id    TEXT,
    scope         TEXT NOT NULL,
    roles         TEXT NOT NULL,
    issued_at_us  BIGINT NOT NULL,
    -- Null for one that does not expire.
    expires_at_us BIGINT
);
CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE volume_types (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    description   TEXT,
    is_public     BIGINT NOT NULL DEFAULT 1,
    extra_specs   TEXT NOT NULL DEFAULT '{}',
    qos_specs_id  TEXT,
    -- {provider, cipher, key_size, control_location, encryption_id}, or null.
    encryption    TEXT,
    created_at_us BIGINT NOT NULL,
    updated_at_us BIGINT
);

-- Who may use a type that is not public.
CREATE TABLE volume_type_access (
    volume_type_id TEXT NOT NULL REFERENCES volume_types (id),
    project_id     TEXT NOT NULL,
    PRIMARY KEY (volume_type_id, project_id)
);

CREATE TABLE qos_specs (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    consumer      TEXT NOT NULL,
    specs         TEXT NOT NULL DEFAULT '{}',
    created_at_us BIGINT NOT NULL
);

CREATE TABLE snapshots (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    volume_id      TEXT NOT NULL REFERENCES volumes (id),
    project_id     TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    name           TEXT,
    description    TEXT,
    size_gib       BIGINT NOT NULL,
    status         TEXT NOT NULL,
    progress       BIGINT NOT NULL DEFAULT 0,
    metadata       TEXT NOT NULL DEFAULT '{}',
    volume_type_id TEXT,
    provider       TEXT,
    created_at_us  BIGINT NOT NULL,
    updated_at_us  BIGINT
);
CREATE INDEX snapshots_by_volume ON snapshots (volume_id);
CREATE INDEX snapshots_by_project ON snapshots (project_id, seq);

-- Limits that differ from the configured ones. `owner` is a project's id, or 'class:<name>'.
CREATE TABLE quotas (
    owner      TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (owner, resource)
);

-- Counters. `owner` is a project's id, or 'pool:<host@backend#pool>'. Written only in the transaction that adds or removes what
-- they count, so that each is always the sum it stands for.
CREATE TABLE usages (
    owner    TEXT NOT NULL,
    resource TEXT NOT NULL,
    in_use   BIGINT NOT NULL,
    reserved BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, resource)
);

-- What is set aside for work that is not certain to succeed (an extend, a retype); the operation's end frees or commits it.
CREATE TABLE reservations (
    operation_id TEXT NOT NULL,
    owner        TEXT NOT NULL,
    resource     TEXT NOT NULL,
    delta        BIGINT NOT NULL,
    PRIMARY KEY (operation_id, owner, resource)
);

-- The processes and their backends. A volume backend tells its pools here.
CREATE TABLE services (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    host              TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    disabled          BIGINT NOT NULL DEFAULT 0,
    disabled_reason   TEXT,
    pools             TEXT NOT NULL DEFAULT '[]',
    started_at_us     BIGINT NOT NULL,
    heartbeat_at_us   BIGINT NOT NULL,
    updated_at_us     BIGINT,
    UNIQUE (name, host)
);

CREATE TABLE messages (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    project_id    TEXT NOT NULL,
    request_id    TEXT,
    resource_type TEXT NOT NULL,
    resource_id   TEXT NOT NULL,
    event_id      TEXT NOT NULL,
    message_level TEXT NOT NULL,
    user_message  TEXT NOT NULL,
    -- Why each pool was not taken, as [{pool, filter, reason}], or null.
    why_not       TEXT,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL
);
CREATE INDEX messages_by_project ON messages (project_id, seq);

-- Every long action, from when it is accepted. It is written in the transaction that changes its object's status.
CREATE TABLE operations (
    seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    kind            TEXT NOT NULL,
    object_type     TEXT NOT NULL,
    object_id       TEXT NOT NULL,
    project_id      TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    request_id      TEXT,
    -- What was asked for, beyond what the object's row says.
    request         TEXT NOT NULL DEFAULT '{}',
    -- Whose turn it is: 'scheduler', 'volume.<host@backend>', 'backup'.
    queue           TEXT NOT NULL,
    step            TEXT NOT NULL,
    progress        BIGINT NOT NULL DEFAULT 0,
    state           TEXT NOT NULL,
    cause           TEXT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    owner           TEXT,
    heartbeat_at_us BIGINT,
    created_at_us   BIGINT NOT NULL,
    updated_at_us   BIGINT NOT NULL
);
CREATE INDEX operations_by_object ON operations (object_id);
CREATE INDEX operations_by_state ON operations (state, queue);

CREATE TABLE transfers (
    id            TEXT PRIMARY KEY,
    volume_id     TEXT NOT NULL REFERENCES volumes (id),
    project_id    TEXT NOT NULL,
    name          TEXT,
    salt          TEXT NOT NULL,
    key_digest    TEXT NOT NULL,
    no_snapshots  BIGINT NOT NULL DEFAULT 0,
    destination   TEXT,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE backups (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    volume_id      TEXT,
    snapshot_id    TEXT,
    parent_id      TEXT,
    project_id     TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    name           TEXT,
    description    TEXT,
    size_gib       BIGINT NOT NULL,
    status         TEXT NOT NULL,
    fail_reason    TEXT,
    container      TEXT,
    is_incremental BIGINT NOT NULL DEFAULT 0,
    object_count   BIGINT NOT NULL DEFAULT 0,
    host           TEXT,
    metadata       TEXT NOT NULL DEFAULT '{}',
    -- Where its chunks are and what they hash to.
    manifest       TEXT,
    data_at_us     BIGINT,
    created_at_us  BIGINT NOT NULL,
    updated_at_us  BIGINT
);
CREATE INDEX backups_by_project ON backups (project_id, seq);
CREATE INDEX backups_by_volume ON backups (volume_id);

CREATE TABLE images (
    seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id               TEXT NOT NULL UNIQUE,
    project_id       TEXT NOT NULL,
    name             TEXT,
    status           TEXT NOT NULL,
    visibility       TEXT NOT NULL,
    protected        BIGINT NOT NULL DEFAULT 0,
    disk_format      TEXT,
    container_format TEXT,
    size_bytes       BIGINT,
    virtual_bytes    BIGINT,
    min_disk_gib     BIGINT NOT NULL DEFAULT 0,
    min_ram_mib      BIGINT NOT NULL DEFAULT 0,
    checksum         TEXT,
    hash_algo        TEXT,
    hash_value       TEXT,
    location         TEXT,
    properties       TEXT NOT NULL DEFAULT '{}',
    tags             TEXT NOT NULL DEFAULT '[]',
    created_at_us    BIGINT NOT NULL,
    updated_at_us    BIGINT
);
CREATE INDEX images_by_project ON images (project_id, seq);

CREATE TABLE image_members (
    image_id   TEXT NOT NULL REFERENCES images (id),
    project_id TEXT NOT NULL,
    status     TEXT NOT NULL,
    PRIMARY KEY (image_id, project_id)
);

-- The first answer to each request that carried a key, for when it is repeated.
CREATE TABLE idempotency_keys (
    project_id     TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- SHA-256 of method, path and body: the same key for another request is refused.
    fingerprint    TEXT NOT NULL,
    -- Null while the first is under way.
    status         BIGINT,
    answer         TEXT,
    created_at_us  BIGINT NOT NULL,
    PRIMARY KEY (project_id, idempotency_key)
);
