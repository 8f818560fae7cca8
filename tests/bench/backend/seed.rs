//! Many volumes in the database, without storage: what a large installation looks like to whoever reads lists.

use std::path::Path;

use rusqlite::Connection;

/// Copies of the newest volume, each with an id and a name of its own; the counters follow.
const COPY: &str = "
    WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)
    INSERT INTO volumes (id, name, size_gib, status, multiattach, availability_zone, metadata, created_at_us, project_id, user_id,
        host, volume_type_id)
    SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-8' || substr(h, 18, 3) || '-' || substr(h, 21, 12),
        'volume-' || n, size_gib, 'available', multiattach, availability_zone, metadata, created_at_us + n, project_id, user_id,
        host, volume_type_id
    FROM (SELECT n, lower(hex(randomblob(16))) AS h FROM counted), (SELECT * FROM volumes ORDER BY seq DESC LIMIT 1)";

/// As many more as were added.
const COUNT: &str = "UPDATE usages SET in_use = in_use + ? WHERE in_use > 0";

/// Adds so many.
pub fn volumes(database: &Path, count: u32) -> rusqlite::Result<()> {
    let connection = Connection::open(database)?;
    connection.execute(COPY, [count])?;
    connection.execute(COUNT, [count])?;
    Ok(())
}
