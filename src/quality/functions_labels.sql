-- quality: annotation files as rows

CREATE FUNCTION millrace.parse_labels(format text, content bytea, path text DEFAULT NULL, width int DEFAULT NULL, height int DEFAULT NULL)
	RETURNS TABLE (line int, image text, class_id int, class_name text, x1 real, y1 real, x2 real, y2 real, crowd boolean, area real,
		problem text, detail text)
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_parse_labels';
COMMENT ON FUNCTION millrace.parse_labels(text, bytea, text, int, int) IS
	'rows of an annotation file: labels, classes, images, settings, and what could not be read (problem, detail); formats yolo (needs the upright image''s width and height), yaml, names, list, coco, voc, voc0';

CREATE FUNCTION millrace.image_extent(image bytea, OUT width int, OUT height int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200
	AS 'MODULE_PATHNAME', 'millrace_image_extent';
COMMENT ON FUNCTION millrace.image_extent(bytea) IS
	'width and height of a JPEG or PNG when turned upright, from its header; NULL where that cannot be read';
