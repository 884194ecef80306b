-- How much apps and topics may publish and read, and from where apps may be used.

-- JSON: an object of the limits that are set, by measure; a list of address ranges. Empty: none.
ALTER TABLE app   ADD COLUMN limits    TEXT NOT NULL DEFAULT '';
ALTER TABLE app   ADD COLUMN addresses TEXT NOT NULL DEFAULT '';
ALTER TABLE topic ADD COLUMN limits    TEXT NOT NULL DEFAULT '';
