-- quality: what detectors return

CREATE TYPE millrace.detection AS (
	class_id   int,
	class_name text,
	confidence real,
	x1         real,
	y1         real,
	x2         real,
	y2         real
);
COMMENT ON TYPE millrace.detection IS
	'one object in an image: its class, the model''s confidence, and its box in pixels of the upright image, x to the right, y down';
