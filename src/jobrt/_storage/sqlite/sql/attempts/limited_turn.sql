INSERT INTO jobrt_queue (name, turn) VALUES (:queue, :turn) ON CONFLICT (name) DO UPDATE SET turn = :turn;
