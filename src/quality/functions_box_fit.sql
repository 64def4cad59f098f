-- quality: whether boxes lie where the objects are

CREATE FUNCTION millrace.box_fit(image bytea, boxes real[],
		OUT looked_at int, OUT fit real, OUT best real, OUT move text, OUT dx real, OUT dy real)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50000
	AS 'MODULE_PATHNAME', 'millrace_box_fit';
COMMENT ON FUNCTION millrace.box_fit(bytea, real[]) IS
	'how much colours differ across the sides of boxes (x1, y1, x2, y2 of the upright image, one after the other): as they are (fit), and at most when all are moved alike (best, move); NULLs where no box is large enough or the image is bad';
