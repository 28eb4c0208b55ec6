INSERT INTO jobrt_action (at, subject, name, who, what, why) VALUES (:now, :subject, :name, :who, :what, :why);
