-- Pipeline "datasets", export: a version as the files that other tools read, in the layouts that import_files() reads.
--
-- export_files() is two parts, so that images stream from the table to whoever reads the rows: export_places() says which image gets which
-- path, export_labels() writes the files of labels.

-- Text within XML and within a double-quoted scalar of YAML.
CREATE OR REPLACE FUNCTION @schema@.xml_text(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT replace(replace(replace(regexp_replace(value, '[[:cntrl:]]', ' ', 'g'), '&', '&amp;'), '<', '&lt;'), '>', '&gt;')
$$;
COMMENT ON FUNCTION @schema@.xml_text(text) IS 'a text as XML has it';
CREATE OR REPLACE FUNCTION @schema@.yaml_text(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT '"' || replace(replace(regexp_replace(value, '[[:cntrl:]]', ' ', 'g'), '\', '\\'), '"', '\"') || '"'
$$;
COMMENT ON FUNCTION @schema@.yaml_text(text) IS 'a text as YAML has it';

-- A number with so many decimals, without zeros at its end.
CREATE OR REPLACE FUNCTION @schema@.decimal_text(value double precision, decimals int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT trim_scale(round(value::numeric, decimals))::text
$$;
COMMENT ON FUNCTION @schema@.decimal_text(double precision, int) IS 'a number with at most so many decimals';

CREATE OR REPLACE FUNCTION @schema@.export_places(reference text, format text, options jsonb DEFAULT '{}')
	RETURNS TABLE (image_id bigint, split text, path text, stem text, place text) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	unknown text := (SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) FROM jsonb_object_keys(options) k WHERE k NOT IN ('splits', 'images', 'crowds', 'voc_origin'));
BEGIN
	IF format NOT IN ('yolo', 'coco', 'voc', 'folders') THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown format "%s" of data sets', format), HINT = 'Formats are yolo, coco, voc and folders.';
	ELSIF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('export_files() has no option %s', unknown), HINT = 'Options are splits, images, crowds and voc_origin.';
	END IF;
	RETURN QUERY
	WITH named AS (
		-- Paths that leave their folder get a name of ours.
		SELECT i.image_id, regexp_replace(regexp_replace(i.split, '[^[:alnum:]_.-]', '_', 'g'), '^\.+', '_') AS split,
			coalesce(@schema@.plain_path(i.path), format('image_%s.jpg', i.image_id)) AS path
		FROM @schema@.images_of(reference) i WHERE options -> 'splits' IS NULL OR options -> 'splits' ? i.split
	), stems AS (
		SELECT n.*, regexp_replace(n.path, '\.[^./]*$', '') AS stem FROM named n
	), single AS (
		-- Files of labels are named by stems: where two images share one, the later is renamed.  VOC has one folder for all splits.
		SELECT s.image_id, s.split, s.stem, s.path, row_number() OVER (PARTITION BY CASE WHEN format <> 'voc' THEN s.split END, s.stem ORDER BY s.image_id) > 1 AS renamed FROM stems s
	), final AS (
		SELECT s.image_id, s.split, CASE WHEN s.renamed AND format IN ('yolo', 'voc') THEN format('%s_%s', s.stem, s.image_id) ELSE s.stem END AS stem,
			substr(s.path, length(s.stem) + 1) AS suffix
		FROM single s
	), class AS (
		SELECT DISTINCT ON (a.image_id) a.image_id, regexp_replace(regexp_replace(coalesce(c.class_name, a.class_id::text), '[/\\[:cntrl:]]', '_', 'g'), '^\.+', '_') AS name
		FROM @schema@.annotations_of(reference) a JOIN @schema@.images i USING (image_id) LEFT JOIN @schema@.classes c ON c.dataset = i.dataset AND c.class_id = a.class_id
		WHERE format = 'folders' AND a.x1 IS NULL ORDER BY a.image_id, a.annotation_id
	)
	SELECT f.image_id, f.split, f.stem || f.suffix, f.stem, CASE format
		WHEN 'yolo' THEN format('images/%s/%s%s', f.split, f.stem, f.suffix)
		WHEN 'coco' THEN format('%s/%s%s', f.split, f.stem, f.suffix)
		WHEN 'voc' THEN format('JPEGImages/%s%s', f.stem, f.suffix)
		ELSE CASE WHEN c.name IS NULL THEN format('%s/%s', f.split, replace(f.stem || f.suffix, '/', '_'))
			WHEN f.stem LIKE replace(replace(c.name, '%', '\%'), '_', '\_') || '/%' THEN format('%s/%s%s', f.split, f.stem, f.suffix)
			ELSE format('%s/%s/%s', f.split, c.name, replace(f.stem || f.suffix, '/', '_')) END END
	FROM final f LEFT JOIN class c USING (image_id);
END $$;
COMMENT ON FUNCTION @schema@.export_places(text, text, jsonb) IS 'step of export_files(): the path that each image of a version gets';

CREATE OR REPLACE FUNCTION @schema@.export_labels(reference text, format text, options jsonb DEFAULT '{}') RETURNS TABLE (path text, content bytea) LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text := (@schema@.resolve(reference)).dataset;
	crowds boolean := coalesce((options ->> 'crowds')::boolean, false);
	origin int := coalesce((options ->> 'voc_origin')::int, 1);
BEGIN
	IF format = 'yolo' THEN
		-- YOLO numbers classes without gaps; one that has no name is called by its number.
		RETURN QUERY
		WITH used AS (
			SELECT c.class_id, c.class_name FROM @schema@.classes c WHERE c.dataset = name
			UNION ALL
			SELECT DISTINCT a.class_id, a.class_id::text FROM @schema@.annotations_of(reference) a WHERE a.x1 IS NOT NULL
				AND NOT EXISTS (SELECT FROM @schema@.classes c WHERE c.dataset = name AND c.class_id = a.class_id)
		), class AS (
			SELECT class_id, class_name, row_number() OVER (ORDER BY class_id) - 1 AS n FROM used
		), place AS (
			SELECT p.*, e.width::double precision AS w, e.height::double precision AS h FROM @schema@.export_places(reference, format, options) p JOIN @schema@.images i USING (image_id),
				LATERAL millrace.image_extent(i.content) e
		), line AS (
			SELECT a.image_id, string_agg(concat_ws(' ', c.n, @schema@.decimal_text((a.x1::double precision + a.x2) / 2 / p.w, 9), @schema@.decimal_text((a.y1::double precision + a.y2) / 2 / p.h, 9),
				@schema@.decimal_text((a.x2::double precision - a.x1) / p.w, 9), @schema@.decimal_text((a.y2::double precision - a.y1) / p.h, 9)) || E'\n', '' ORDER BY a.annotation_id) AS text
			FROM @schema@.annotations_of(reference) a JOIN place p USING (image_id) JOIN class c USING (class_id)
			WHERE a.x1 IS NOT NULL AND p.w > 0 AND (crowds OR NOT a.crowd) GROUP BY 1
		)
		SELECT format('labels/%s/%s.txt', p.split, p.stem), convert_to(coalesce(l.text, ''), 'UTF8') FROM place p LEFT JOIN line l USING (image_id) WHERE p.w IS NOT NULL
		UNION ALL
		SELECT 'data.yaml', convert_to(format(E'# %s\n', regexp_replace(reference, '[[:cntrl:]]', ' ', 'g'))
			|| coalesce((SELECT string_agg(format(E'%s: %s\n', @schema@.yaml_text(s.split), @schema@.yaml_text('images/' || s.split)), '' ORDER BY s.split) FROM (SELECT DISTINCT p.split FROM place p) s), '')
			|| format(E'nc: %s\nnames:\n', (SELECT count(*) FROM class))
			|| coalesce((SELECT string_agg(format(E'  %s: %s\n', c.n, @schema@.yaml_text(c.class_name)), '' ORDER BY c.n) FROM class c), ''), 'UTF8');
	ELSIF format = 'coco' THEN
		RETURN QUERY
		WITH place AS (
			SELECT p.*, e.width, e.height FROM @schema@.export_places(reference, format, options) p JOIN @schema@.images i USING (image_id) LEFT JOIN LATERAL millrace.image_extent(i.content) e ON true
		), image AS (
			SELECT p.split, string_agg(json_strip_nulls(json_build_object('id', p.image_id, 'file_name', p.path, 'width', p.width, 'height', p.height))::text, E',\n' ORDER BY p.image_id) AS text
			FROM place p GROUP BY 1
		), annotation AS (
			SELECT p.split, string_agg(json_build_object('id', a.annotation_id, 'image_id', a.image_id, 'category_id', a.class_id,
				'bbox', json_build_array(a.x1, a.y1, @schema@.decimal_text(a.x2::double precision - a.x1, 4)::numeric, @schema@.decimal_text(a.y2::double precision - a.y1, 4)::numeric),
				'area', coalesce(a.area, ((a.x2::double precision - a.x1) * (a.y2::double precision - a.y1))::real), 'iscrowd', a.crowd::int)::text, E',\n' ORDER BY a.annotation_id) AS text
			FROM @schema@.annotations_of(reference) a JOIN place p USING (image_id) WHERE a.x1 IS NOT NULL GROUP BY 1
		)
		SELECT format('annotations/instances_%s.json', m.split), convert_to(format(E'{"info": %s,\n"images": [\n%s],\n"annotations": [\n%s],\n"categories": [\n%s]}\n',
			json_build_object('description', reference), m.text, coalesce(n.text, ''),
			coalesce((SELECT string_agg(json_build_object('id', c.class_id, 'name', c.class_name)::text, E',\n' ORDER BY c.class_id) FROM @schema@.classes c WHERE c.dataset = name), '')), 'UTF8')
		FROM image m LEFT JOIN annotation n USING (split);
	ELSIF format = 'voc' THEN
		RETURN QUERY
		WITH place AS (
			SELECT p.*, e.width, e.height FROM @schema@.export_places(reference, format, options) p JOIN @schema@.images i USING (image_id), LATERAL millrace.image_extent(i.content) e
			WHERE i.content IS NOT NULL
		), object AS (
			SELECT a.image_id, string_agg(format(E'\t<object>\n\t\t<name>%s</name>\n\t\t<difficult>%s</difficult>\n\t\t<bndbox><xmin>%s</xmin><ymin>%s</ymin><xmax>%s</xmax><ymax>%s</ymax></bndbox>\n\t</object>\n',
				@schema@.xml_text(coalesce(c.class_name, a.class_id::text)), a.crowd::int, @schema@.decimal_text(a.x1::double precision + origin, 4), @schema@.decimal_text(a.y1::double precision + origin, 4),
				@schema@.decimal_text(a.x2, 4), @schema@.decimal_text(a.y2, 4)), '' ORDER BY a.annotation_id) AS text
			FROM @schema@.annotations_of(reference) a LEFT JOIN @schema@.classes c ON c.dataset = name AND c.class_id = a.class_id WHERE a.x1 IS NOT NULL GROUP BY 1
		)
		SELECT format('Annotations/%s.xml', p.stem), convert_to(format(E'<annotation>\n\t<filename>%s</filename>\n%s%s</annotation>\n', @schema@.xml_text(regexp_replace(p.path, '^.*/', '')),
			CASE WHEN p.width IS NOT NULL THEN format(E'\t<size><width>%s</width><height>%s</height><depth>3</depth></size>\n', p.width, p.height) END, o.text), 'UTF8')
			FROM place p LEFT JOIN object o USING (image_id)
		UNION ALL
		SELECT format('ImageSets/Main/%s.txt', p.split), convert_to(string_agg(p.stem || E'\n', '' ORDER BY p.image_id), 'UTF8') FROM place p GROUP BY p.split;
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.export_labels(text, text, jsonb) IS 'step of export_files(): the files of labels';

-- Without SET, so that the planner sees through it and images stream.
CREATE OR REPLACE FUNCTION @schema@.export_files(reference text, format text DEFAULT 'yolo', options jsonb DEFAULT '{}') RETURNS TABLE (path text, content bytea) LANGUAGE sql STABLE AS $$
	SELECT l.path, l.content FROM @schema@.export_labels(reference, format, options) l
	UNION ALL
	SELECT p.place, i.content FROM @schema@.export_places(reference, format, options) p JOIN @schema@.images i USING (image_id)
	WHERE i.content IS NOT NULL AND coalesce((options ->> 'images')::boolean, true)
$$;
COMMENT ON FUNCTION @schema@.export_files(text, text, jsonb) IS
	'a version of a data set as files: format yolo, coco, voc or folders; options splits (some of them), images (false: labels only), crowds (true: in YOLO, too), voc_origin';

CREATE OR REPLACE FUNCTION @schema@.export_to_directory(reference text, format text, directory text, options jsonb DEFAULT '{}', overwrite boolean DEFAULT false) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(millrace.directory_write(directory, e.path, e.content, overwrite)) FROM @schema@.export_files(reference, format, options) e
$$;
COMMENT ON FUNCTION @schema@.export_to_directory(text, text, text, jsonb, boolean) IS
	'export_files() into an existing directory of the server, for members of pg_write_server_files; returns how many files';
