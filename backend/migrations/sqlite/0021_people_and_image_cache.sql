-- What the identity API keeps of users beyond their names, and the volumes that backends keep to clone images from.
ALTER TABLE users ADD COLUMN description TEXT;
ALTER TABLE users ADD COLUMN email TEXT;

CREATE TABLE image_cache (
    image_id   TEXT NOT NULL,
    -- host@backend
    backend    TEXT NOT NULL,
    -- The id its storage knows it by. It is no volume of anybody's.
    volume_id  TEXT NOT NULL,
    size_gib   INTEGER NOT NULL,
    provider   TEXT,
    used_at_us INTEGER NOT NULL,
    PRIMARY KEY (image_id, backend)
) STRICT;
