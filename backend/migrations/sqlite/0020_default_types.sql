-- The type that a project's volumes get which ask for none, where that is not the service's default.
CREATE TABLE default_types (
    project_id     TEXT PRIMARY KEY,
    volume_type_id TEXT NOT NULL REFERENCES volume_types (id)
) STRICT;
