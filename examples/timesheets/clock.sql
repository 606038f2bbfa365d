-- A day in the database of a clocking machine, as such machines leave it: sqlite3 out/clock.db < examples/timesheets/clock.sql
-- Its clock shows local time. See "From the machine's own database" in README.md beside this file.
CREATE TABLE readings (
    id        INTEGER PRIMARY KEY,
    gate      TEXT NOT NULL,
    badge     TEXT,
    direction TEXT NOT NULL,
    read_at   TEXT NOT NULL
);
INSERT INTO readings VALUES
    ( 1, 'gate-1', 'E-17', 'in',  '2026-11-19 07:58:12'),
    ( 2, 'gate-1', 'E-17', 'in',  '2026-11-19 07:58:12'),  -- the badge was read twice
    ( 3, 'gate-2', 'E-21', 'out', '2026-11-19 08:00:00'),  -- the wrong button
    ( 4, 'gate-1', 'E-17', 'out', '2026-11-19 12:01:00'),
    ( 5, 'gate-1', 'E-17', 'in',  '2026-11-19 07:58:12'),  -- after a restart the machine repeats
    ( 6, 'gate-1', 'E-17', 'out', '2026-11-19 12:01:00'),  -- what it has sent before
    ( 7, 'gate-1', NULL,   'in',  '2026-11-19 12:30:00'),  -- a badge that could not be read
    ( 8, 'gate-1', 'E-17', 'in',  '2026-11-19 12:41:30'),
    -- 9: the second gate has been given this number and writes its row later
    (10, 'gate-1', 'E-17', 'out', '2026-11-19 17:10:05');
