-- The texts of a row without large ones: many of those in one JSON text could be more than SQLite can build. `args` is
-- null if any of them is large. Not length(text), which ends at a NUL. Usual values cost the least.
CASE WHEN length(CAST(args AS BLOB)) <= 8192
    AND (metadata = '{}' OR length(CAST(metadata AS BLOB)) <= 8192)
    AND (tags = '[]' OR length(CAST(tags AS BLOB)) <= 8192)
    AND (context IS NULL OR length(CAST(context AS BLOB)) <= 8192)
THEN args END,
CASE WHEN metadata = '{}' OR length(CAST(metadata AS BLOB)) <= 8192 THEN metadata END,
CASE WHEN tags = '[]' OR length(CAST(tags AS BLOB)) <= 8192 THEN tags END,
CASE WHEN length(CAST(context AS BLOB)) <= 8192 THEN context END
