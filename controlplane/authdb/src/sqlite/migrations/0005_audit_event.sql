-- What happened elsewhere is told until it is acknowledged, and has one row all the same. NULL: a change, or a denial.
ALTER TABLE audit ADD COLUMN event TEXT;
CREATE UNIQUE INDEX audit_event ON audit (event) WHERE event IS NOT NULL;
