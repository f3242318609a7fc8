-- Where transactions that are held open write.
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE IF NOT EXISTS chaos.scratch (note text NOT NULL);
