SELECT json_group_array(json_array(id, at, subject, name, who, what, why)) FROM (
    SELECT * FROM jobrt_action
    WHERE (:subject IS NULL OR subject = :subject) AND (:name IS NULL OR name = :name)
    ORDER BY id DESC LIMIT :limit
);
