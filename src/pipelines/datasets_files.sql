-- Pipeline "datasets", import: what is in the table files becomes images, classes and annotations.
--
-- import_files() makes working tables in pg_temp, which end with the transaction:
--	import_file		the files by their plain names: which split, where in it, what part they play
--	import_folder	of data.yaml: which folder is which split
--	import_image	images they are or name; file NULL: only named
--	import_label	labels as the files have them; import_labelled: images whose labels the import knows, be they none
--	import_class	names of classes, by the number that the file gives them
--	import_problem	what could not be read
-- A reader per layout fills them (import_pairs: YOLO and VOC, a file of labels an image; import_coco; import_folders); then
-- import_apply() compares them with the newest version and writes what differs.

-- A path within a folder made plain, NULL where it leaves the folder or is none.
CREATE OR REPLACE FUNCTION @schema@.plain_path(path text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN p !~ '(^/|^[A-Za-z]:|(^|/)\.\.(/|$)|[[:cntrl:]]|^$|/$)' THEN p END
	FROM regexp_replace(regexp_replace(replace(path, '\', '/'), '/+(\./+)*', '/', 'g'), '^(\./)+', '') p
$$;
COMMENT ON FUNCTION @schema@.plain_path(text) IS 'a path within a folder without ./, // and backslashes; NULL: it is absolute, goes up with .., or has control characters';

-- The split that a folder's name means: train2017, valid …, or one of those given; NULL: none.
CREATE OR REPLACE FUNCTION @schema@.split_of(folder text, splits text[] DEFAULT '{}') RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN folder = ANY (splits) THEN folder
		WHEN folder ~* '^train(ing)?(20[0-9]{2})?$' THEN 'train'
		WHEN folder ~* '^(val|valid|validation|dev)(20[0-9]{2})?$' THEN 'val'
		WHEN folder ~* '^test(ing)?(20[0-9]{2})?$' THEN 'test' END
$$;
COMMENT ON FUNCTION @schema@.split_of(text, text[]) IS 'the split that a folder''s name stands for, NULL: none';

-- images/train/a/1.jpg, train/images/a/1.jpg and train/a/1.jpg are a/1.jpg of train.
CREATE OR REPLACE FUNCTION @schema@.place_of(name text, splits text[], OUT split text, OUT rest text) LANGUAGE plpgsql IMMUTABLE
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cut text[] := regexp_match(name, '^(?:(.*)/)?images/(.*)$');
BEGIN
	rest := coalesce(cut[2], name);
	IF rest LIKE '%/%' THEN
		split := @schema@.split_of(split_part(rest, '/', 1), splits);
		IF split IS NOT NULL THEN
			rest := substr(rest, strpos(rest, '/') + 1);
		END IF;
	END IF;
	split := coalesce(split, @schema@.split_of(regexp_replace(cut[1], '^.*/', ''), splits));
END $$;
COMMENT ON FUNCTION @schema@.place_of(text, text[]) IS 'split and path of an image by the folders it is in';

-- Working tables end with the transaction; a second import within it begins anew.
CREATE OR REPLACE FUNCTION @schema@.import_tables() RETURNS void LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
	DROP TABLE IF EXISTS pg_temp.import_file, pg_temp.import_folder, pg_temp.import_row, pg_temp.import_image, pg_temp.import_label,
		pg_temp.import_labelled, pg_temp.import_class, pg_temp.import_problem;
	CREATE TEMP TABLE import_file (path text PRIMARY KEY, name text NOT NULL, base text NOT NULL, ext text NOT NULL, role text, split text, rest text, key text)
		ON COMMIT DROP;
	CREATE TEMP TABLE import_folder (split text, folder text) ON COMMIT DROP;
	CREATE TEMP TABLE import_row (n int, file text, line int, image text, class_id int, class_name text, x1 real, y1 real, x2 real, y2 real, crowd boolean, area real,
		problem text, detail text, id bigint GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP;
	CREATE TEMP TABLE import_image (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, split text NOT NULL, path text NOT NULL, file text, width int, height int,
		image_id bigint, since int, known boolean NOT NULL DEFAULT false, changed boolean NOT NULL DEFAULT false, UNIQUE (split, path)) ON COMMIT DROP;
	CREATE TEMP TABLE import_label (n int NOT NULL, class_id int, class_name text, x1 real, y1 real, x2 real, y2 real, crowd boolean, area real, source text,
		id bigint) ON COMMIT DROP;
	CREATE TEMP TABLE import_labelled (n int PRIMARY KEY, changed boolean NOT NULL DEFAULT true) ON COMMIT DROP;
	CREATE TEMP TABLE import_class (class_id int, class_name text NOT NULL) ON COMMIT DROP;
	CREATE TEMP TABLE import_problem (path text NOT NULL, line int, kind text NOT NULL, detail text, n int) ON COMMIT DROP;
END $$;
COMMENT ON FUNCTION @schema@.import_tables() IS 'makes the working tables of import_files()';

-- The files that are images become rows of import_image; two that claim one place are a problem of the second.
CREATE OR REPLACE FUNCTION @schema@.import_images(default_split text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO pg_temp.import_image (split, path, file)
		SELECT coalesce(f.split, default_split), f.rest, f.path FROM pg_temp.import_file f WHERE f.role = 'image' ORDER BY f.path COLLATE "C"
		ON CONFLICT DO NOTHING;
	INSERT INTO pg_temp.import_problem (path, kind, detail)
		SELECT f.path, 'duplicate_path', format('split %s has an image %s already, from %s', m.split, m.path, m.file)
		FROM pg_temp.import_file f JOIN pg_temp.import_image m ON m.split = coalesce(f.split, default_split) AND m.path = f.rest
		WHERE f.role = 'image' AND f.path <> m.file;
	ANALYZE pg_temp.import_image;
END $$;
COMMENT ON FUNCTION @schema@.import_images(text) IS 'step of import_files(): its images';

-- Rows of label files that belong to images by their n become labels, or problems.
CREATE OR REPLACE FUNCTION @schema@.import_rows() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO pg_temp.import_label
		SELECT r.n, r.class_id, r.class_name, r.x1, r.y1, r.x2, r.y2, coalesce(r.crowd, false), r.area, concat_ws(':', r.file, r.line), r.id
		FROM pg_temp.import_row r WHERE r.n IS NOT NULL AND r.problem IS NULL AND coalesce(r.class_id::text, r.class_name) IS NOT NULL;
	INSERT INTO pg_temp.import_problem SELECT r.file, r.line, r.problem, r.detail, r.n FROM pg_temp.import_row r WHERE r.problem IS NOT NULL;
	-- A size that the labels were drawn for, and another one that the image has.
	INSERT INTO pg_temp.import_problem
		SELECT r.file, r.line, 'image_size_differs', format('labels are for %s x %s pixels, the upright image has %s x %s', r.x2, r.y2, m.width, m.height), m.n
		FROM pg_temp.import_row r JOIN pg_temp.import_image m USING (n)
		WHERE r.problem IS NULL AND r.class_id IS NULL AND r.class_name IS NULL AND (r.x2, r.y2) <> (m.width, m.height);
	TRUNCATE pg_temp.import_row;
END $$;
COMMENT ON FUNCTION @schema@.import_rows() IS 'step of import_files(): what was read of labels';

CREATE OR REPLACE FUNCTION @schema@.import_extents(dataset text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE pg_temp.import_image m SET (width, height) = (SELECT e.width, e.height FROM @schema@.files s, millrace.image_extent(s.content) e
			WHERE s.dataset = import_extents.dataset AND s.path = m.file)
		WHERE m.file IS NOT NULL AND m.n IN (SELECT n FROM pg_temp.import_labelled);
	UPDATE pg_temp.import_image m SET (width, height) = (SELECT e.width, e.height FROM @schema@.images i, millrace.image_extent(i.content) e
			WHERE i.dataset = import_extents.dataset AND i.split = m.split AND i.path = m.path AND i.until IS NULL)
		WHERE m.file IS NULL AND m.n IN (SELECT n FROM pg_temp.import_labelled);
END $$;
COMMENT ON FUNCTION @schema@.import_extents(text) IS 'step of import_files(): width and height of the images with labels';

-- A folder or list as data.yaml names it: what is left behind ../ and, of a path of another machine, its last two names.
CREATE OR REPLACE FUNCTION @schema@.plain_folder(value text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN v ~ '^(/|[A-Za-z]:)' THEN substring(v FROM '([^/]*/?[^/]+)$') ELSE regexp_replace(v, '^(\.{1,2}(/|$))+', '') END
	FROM regexp_replace(replace(value, '\', '/'), '/+$', '') v
$$;
COMMENT ON FUNCTION @schema@.plain_folder(text) IS 'a folder as data.yaml names it, below the data set''s own';

-- YOLO and Pascal VOC: a file of labels for each image, of the same name in a folder beside it.
CREATE OR REPLACE FUNCTION @schema@.import_pairs(dataset text, format text, splits text[], default_split text, voc_origin int) RETURNS void LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	yolo boolean := format = 'yolo';
BEGIN
	IF yolo THEN
		UPDATE pg_temp.import_file f SET role = 'yaml' WHERE f.ext IN ('yaml', 'yml')
			AND (f.base ~ '^data\.ya?ml$' OR NOT EXISTS (SELECT FROM pg_temp.import_file g WHERE g.base ~ '^data\.ya?ml$'));
		UPDATE pg_temp.import_file f SET role = 'names' WHERE f.base IN ('classes.txt', 'obj.names')
			AND NOT EXISTS (SELECT FROM pg_temp.import_file g WHERE g.role = 'yaml');
		INSERT INTO pg_temp.import_row SELECT NULL, f.path, r.* FROM pg_temp.import_file f JOIN @schema@.files s ON s.dataset = import_pairs.dataset AND s.path = f.path,
			LATERAL millrace.parse_labels(f.role, s.content) r WHERE f.role IN ('yaml', 'names');
		INSERT INTO pg_temp.import_class SELECT r.class_id, r.class_name FROM pg_temp.import_row r WHERE r.problem IS NULL AND r.class_id IS NOT NULL;
		INSERT INTO pg_temp.import_folder SELECT r.detail, @schema@.plain_folder(r.image) FROM pg_temp.import_row r
			WHERE r.problem IS NULL AND r.detail IN ('train', 'val', 'test') AND @schema@.plain_folder(r.image) <> '';
		PERFORM @schema@.import_rows();
		UPDATE pg_temp.import_file f SET role = 'list', split = d.split FROM pg_temp.import_folder d WHERE f.ext = 'txt' AND right('/' || f.name, length(d.folder) + 1) = '/' || d.folder;
		UPDATE pg_temp.import_file f SET role = 'label' WHERE f.ext = 'txt' AND f.role IS NULL AND CASE WHEN EXISTS (SELECT FROM pg_temp.import_file g WHERE g.name ~ '(^|/)labels/')
			THEN f.name ~ '(^|/)labels/' ELSE f.base !~* '^(readme|license|classes|notes|requirements)' END;
	ELSE
		UPDATE pg_temp.import_file SET role = 'label' WHERE ext = 'xml';
		UPDATE pg_temp.import_file f SET role = 'list', split = @schema@.split_of(regexp_replace(f.base, '\.txt$', ''), splits) WHERE f.ext = 'txt'
			AND f.name ~ '(^|/)ImageSets/Main/' AND @schema@.split_of(regexp_replace(f.base, '\.txt$', ''), splits) IS NOT NULL;
	END IF;

	-- Where images and labels belong, seen as if both were in one folder: as data.yaml says, else by their folders' names.
	UPDATE pg_temp.import_file f SET split = coalesce(d.split, p.split), key = regexp_replace(coalesce(d.rest, p.rest), '\.[^./]*$', ''), rest = coalesce(d.rest, p.rest)
		FROM (SELECT g.path, regexp_replace(g.name, '^(.*/)?(labels|Annotations|JPEGImages)/', '\1images/') AS name FROM pg_temp.import_file g WHERE g.role IN ('image', 'label')) g
		LEFT JOIN LATERAL (SELECT d.split, regexp_replace(substr('/' || g.name, strpos('/' || g.name, '/' || d.folder || '/') + length(d.folder) + 2), '^images/', '') AS rest
			FROM pg_temp.import_folder d WHERE '/' || g.name LIKE '%/' || replace(replace(d.folder, '%', '\%'), '_', '\_') || '/%'
			ORDER BY length(d.folder) DESC, array_position(ARRAY['train', 'val', 'test'], d.split) LIMIT 1) d ON true,
		LATERAL @schema@.place_of(g.name, splits) p
		WHERE f.path = g.path;
	-- Lists have the last word.
	CREATE TEMP TABLE import_listed ON COMMIT DROP AS
		SELECT e.split, e.entry, regexp_replace(e.entry, '^.*/', '') AS stem FROM
			(SELECT s.split, CASE WHEN yolo THEN regexp_replace(regexp_replace(@schema@.plain_folder(r.image), '^(.*/)?images/', ''), '\.[^./]*$', '') ELSE split_part(r.image, ' ', 1) END AS entry
			 FROM pg_temp.import_file s JOIN @schema@.files t ON t.dataset = import_pairs.dataset AND t.path = s.path, LATERAL millrace.parse_labels('list', t.content) r
			 WHERE s.role = 'list' AND r.problem IS NULL) e;
	ANALYZE pg_temp.import_listed, pg_temp.import_file;
	UPDATE pg_temp.import_file f SET split = l.split
		FROM (SELECT DISTINCT ON (g.path) g.path, e.split FROM pg_temp.import_listed e
				JOIN pg_temp.import_file g ON regexp_replace(g.key, '^.*/', '') = e.stem AND g.role IN ('image', 'label') AND right('/' || e.entry, length(g.key) + 1) = '/' || g.key
			  ORDER BY g.path, array_position(ARRAY['train', 'val', 'test'], e.split)) l
		WHERE f.path = l.path;
	DROP TABLE pg_temp.import_listed;
	PERFORM @schema@.import_images(default_split);

	-- Labels whose image came before, or comes later.
	CREATE TEMP TABLE import_there ON COMMIT DROP AS
		SELECT i.split, i.path, regexp_replace(i.path, '\.[^./]*$', '') AS key FROM @schema@.images i WHERE i.dataset = import_pairs.dataset AND i.until IS NULL;
	ANALYZE pg_temp.import_there, pg_temp.import_file;
	INSERT INTO pg_temp.import_image (split, path)
		SELECT i.split, i.path FROM pg_temp.import_there i JOIN pg_temp.import_file f ON f.role = 'label' AND coalesce(f.split, default_split) = i.split AND f.key = i.key
		ON CONFLICT DO NOTHING;
	DROP TABLE pg_temp.import_there;
	CREATE TEMP TABLE import_pair ON COMMIT DROP AS SELECT f.path AS file, m.n FROM pg_temp.import_file f LEFT JOIN pg_temp.import_image m
		ON m.split = coalesce(f.split, default_split) AND regexp_replace(m.path, '\.[^./]*$', '') = f.key WHERE f.role = 'label';
	INSERT INTO pg_temp.import_problem (path, kind, detail)
		SELECT p.file, 'label_without_image', 'no image has the name of this file of labels' FROM pg_temp.import_pair p WHERE p.n IS NULL;
	INSERT INTO pg_temp.import_labelled (n) SELECT DISTINCT n FROM pg_temp.import_pair WHERE n IS NOT NULL;
	ANALYZE pg_temp.import_labelled;
	PERFORM @schema@.import_extents(dataset);
	INSERT INTO pg_temp.import_row
		SELECT p.n, p.file, r.* FROM pg_temp.import_pair p JOIN pg_temp.import_image m USING (n) JOIN @schema@.files s ON s.dataset = import_pairs.dataset AND s.path = p.file,
			LATERAL millrace.parse_labels(CASE WHEN yolo THEN 'yolo' WHEN voc_origin = 0 THEN 'voc0' ELSE 'voc' END, s.content, p.file, m.width, m.height) r;
	DROP TABLE pg_temp.import_pair;
	-- A number that has a name is told by its name: the data set may know it by another number.
	UPDATE pg_temp.import_row r SET class_name = c.class_name FROM pg_temp.import_class c WHERE yolo AND c.class_id = r.class_id;
	INSERT INTO pg_temp.import_class (class_name) SELECT DISTINCT r.class_name FROM pg_temp.import_row r WHERE NOT yolo AND r.class_name IS NOT NULL;
	PERFORM @schema@.import_rows();
END $$;
COMMENT ON FUNCTION @schema@.import_pairs(text, text, text[], text, int) IS 'step of import_files(): folders of YOLO and Pascal VOC';

-- COCO: files of all labels of a split, instances_train2017.json or train/_annotations.coco.json.
CREATE OR REPLACE FUNCTION @schema@.import_coco(dataset text, splits text[], default_split text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE pg_temp.import_file f SET role = 'label', split = coalesce(@schema@.split_of(substring(f.base FROM '^(?:instances_)?(.*)\.json$'), splits),
			substring(f.base FROM '^instances_(.+)\.json$'), (@schema@.place_of(f.name, splits)).split)
		WHERE f.ext = 'json' AND (f.base LIKE 'instances\_%' OR NOT EXISTS (SELECT FROM pg_temp.import_file g WHERE g.base LIKE 'instances\_%.json'));
	UPDATE pg_temp.import_file f SET (split, rest) = (SELECT p.split, p.rest FROM @schema@.place_of(f.name, splits) p) WHERE f.role = 'image';
	INSERT INTO pg_temp.import_row SELECT NULL, f.path, r.* FROM pg_temp.import_file f JOIN @schema@.files s ON s.dataset = import_coco.dataset AND s.path = f.path,
		LATERAL millrace.parse_labels('coco', s.content, f.path) r WHERE f.role = 'label';
	-- COCO always says an area: that of the box is none of the object's own.
	UPDATE pg_temp.import_row SET area = NULL WHERE abs(area - (x2 - x1) * (y2 - y1)) <= 1e-3 * area;
	ANALYZE pg_temp.import_row;
	INSERT INTO pg_temp.import_class SELECT DISTINCT r.class_id, r.class_name FROM pg_temp.import_row r
		WHERE r.problem IS NULL AND r.image IS NULL AND r.class_id IS NOT NULL AND r.x1 IS NULL;

	-- The file of each image that the labels name: in a folder of their split where there is one, else wherever it is.
	CREATE TEMP TABLE import_named ON COMMIT DROP AS
		SELECT DISTINCT ON (w.file, w.image) w.file, w.image, coalesce(w.split, default_split) AS split, w.line, f.path, f.rest, w.plain
		FROM (SELECT w.file, w.image, w.line, j.split, p.plain, regexp_replace(p.plain, '^.*/', '') AS base
			FROM pg_temp.import_row w JOIN pg_temp.import_file j ON j.path = w.file, LATERAL @schema@.plain_path(w.image) AS p (plain)
			WHERE w.problem IS NULL AND w.image IS NOT NULL AND w.class_id IS NULL) w
		LEFT JOIN pg_temp.import_file f ON f.role = 'image' AND f.base = w.base AND right('/' || f.name, length(w.plain) + 1) = '/' || w.plain
		ORDER BY w.file, w.image, (f.split = w.split) DESC NULLS LAST, length(f.name), f.path;
	INSERT INTO pg_temp.import_problem
		SELECT w.file, w.line, 'bad_path', format('an image has the path "%s"', w.image) FROM pg_temp.import_named w WHERE w.plain IS NULL;
	DELETE FROM pg_temp.import_named WHERE plain IS NULL;
	UPDATE pg_temp.import_named w SET rest = coalesce(w.rest, (@schema@.place_of(w.plain, splits)).rest);
	ANALYZE pg_temp.import_named;
	-- A file that two splits name is an image of both: a leak, which audit() finds.
	INSERT INTO pg_temp.import_image (split, path, file)
		SELECT DISTINCT ON (w.split, w.rest) w.split, w.rest, w.path FROM pg_temp.import_named w ORDER BY w.split, w.rest, w.path COLLATE "C" NULLS LAST;
	UPDATE pg_temp.import_file f SET role = 'named' FROM pg_temp.import_named w WHERE w.path = f.path;
	PERFORM @schema@.import_images(default_split);
	UPDATE pg_temp.import_row r SET n = m.n FROM pg_temp.import_named w JOIN pg_temp.import_image m ON m.split = w.split AND m.path = w.rest
		WHERE r.file = w.file AND r.image = w.image;
	INSERT INTO pg_temp.import_labelled (n) SELECT DISTINCT n FROM pg_temp.import_row WHERE n IS NOT NULL;
	INSERT INTO pg_temp.import_problem
		SELECT w.file, w.line, 'label_without_image', format('image "%s" is not there', w.image), m.n
		FROM pg_temp.import_named w JOIN pg_temp.import_image m ON m.split = w.split AND m.path = w.rest
		WHERE w.path IS NULL AND NOT EXISTS (SELECT FROM @schema@.images i WHERE i.dataset = import_coco.dataset AND i.split = m.split AND i.path = m.path
			AND i.until IS NULL AND i.content IS NOT NULL);
	DROP TABLE pg_temp.import_named;
	PERFORM @schema@.import_extents(dataset);
	PERFORM @schema@.import_rows();
END $$;
COMMENT ON FUNCTION @schema@.import_coco(text, text[], text) IS 'step of import_files(): COCO''s JSON';

-- Class folders: split/class/file or class/file; what is below a class belongs to it.
CREATE OR REPLACE FUNCTION @schema@.import_folders(dataset text, splits text[], default_split text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- One folder around everything, neither split nor class, is passed over.
	around text := (SELECT CASE WHEN min(split_part(name, '/', 1)) = max(split_part(name, '/', 1)) AND min(array_length(string_to_array(name, '/'), 1)) > 2
			AND bool_and(@schema@.split_of(split_part(name, '/', 1), splits) IS NULL) THEN min(split_part(name, '/', 1)) || '/' ELSE '' END
		FROM pg_temp.import_file WHERE role = 'image');
	has_splits boolean := (SELECT coalesce(bool_or(@schema@.split_of(p.part[1], splits) IS NOT NULL AND array_length(p.part, 1) > 2), false)
		FROM pg_temp.import_file f, string_to_array(substr(f.name, length(around) + 1), '/') AS p (part) WHERE f.role = 'image');
BEGIN
	UPDATE pg_temp.import_file f SET split = p.split, rest = CASE WHEN p.split IS NULL THEN p.name ELSE substr(p.name, strpos(p.name, '/') + 1) END
		FROM (SELECT g.path, g.name, CASE WHEN has_splits AND g.name LIKE '%/%' THEN @schema@.split_of(split_part(g.name, '/', 1), splits) END AS split
			FROM (SELECT path, substr(name, length(around) + 1) AS name FROM pg_temp.import_file WHERE role = 'image') g) p
		WHERE f.path = p.path;
	PERFORM @schema@.import_images(default_split);
	INSERT INTO pg_temp.import_label (n, class_name, crowd, source)
		SELECT n, split_part(path, '/', 1), false, file FROM pg_temp.import_image WHERE path LIKE '%/%';
	INSERT INTO pg_temp.import_labelled (n) SELECT n FROM pg_temp.import_label;
	INSERT INTO pg_temp.import_class (class_name) SELECT DISTINCT class_name FROM pg_temp.import_label;
END $$;
COMMENT ON FUNCTION @schema@.import_folders(text, text[], text) IS 'step of import_files(): class folders';

-- Names get numbers: that of the name in the data set, else the file's if it is free, else the next.  Names without a number go by alphabet.
CREATE OR REPLACE FUNCTION @schema@.import_classes(dataset text, renumber boolean) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	added bigint;
	taken int := (SELECT coalesce(max(class_id) + 1, 0) FROM @schema@.classes c WHERE c.dataset = import_classes.dataset);
BEGIN
	WITH fresh AS (
		SELECT c.class_name, min(c.class_id) AS wanted FROM pg_temp.import_class c
		WHERE NOT EXISTS (SELECT FROM @schema@.classes k WHERE k.dataset = import_classes.dataset AND k.class_name = c.class_name) GROUP BY 1
	), placed AS (
		SELECT class_name, CASE WHEN NOT renumber AND row_number() OVER (PARTITION BY wanted ORDER BY class_name COLLATE "C") = 1
			AND NOT EXISTS (SELECT FROM @schema@.classes k WHERE k.dataset = import_classes.dataset AND k.class_id = wanted) THEN wanted END AS id, wanted
		FROM fresh
	), base AS (
		SELECT greatest(taken, coalesce(max(id) + 1, 0)) AS id FROM placed
	)
	INSERT INTO @schema@.classes
		SELECT import_classes.dataset, id, class_name FROM placed WHERE id IS NOT NULL
		UNION ALL
		SELECT import_classes.dataset, base.id + row_number() OVER (ORDER BY wanted, class_name COLLATE "C") - 1, class_name FROM placed, base WHERE placed.id IS NULL;
	GET DIAGNOSTICS added = ROW_COUNT;
	UPDATE pg_temp.import_label l SET class_id = k.class_id FROM (SELECT class_name, min(class_id) AS class_id FROM @schema@.classes c
			WHERE c.dataset = import_classes.dataset GROUP BY 1) k WHERE k.class_name = l.class_name AND k.class_id IS DISTINCT FROM l.class_id;
	RETURN added;
END $$;
COMMENT ON FUNCTION @schema@.import_classes(text, boolean) IS 'step of import_files(): classes, and the labels'' numbers of them';

-- What differs from the newest version is written: rows that came with it are replaced, unless it is frozen; those that an earlier version
-- has end, and the newest has others in their stead.  What is the same is left alone.
CREATE OR REPLACE FUNCTION @schema@.import_apply(dataset text, options jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	current int;
	frozen boolean;
	labels bigint;
BEGIN
	SELECT v.version, v.frozen_at IS NOT NULL INTO current, frozen FROM @schema@.datasets d JOIN @schema@.versions v USING (dataset, version)
		WHERE d.dataset = import_apply.dataset;
	UPDATE pg_temp.import_image m SET image_id = i.image_id, since = i.since, known = true,
			changed = m.file IS NOT NULL AND i.content IS DISTINCT FROM (SELECT s.content FROM @schema@.files s WHERE s.dataset = import_apply.dataset AND s.path = m.file)
		FROM @schema@.images i WHERE i.dataset = import_apply.dataset AND i.split = m.split AND i.path = m.path AND i.until IS NULL;
	ANALYZE pg_temp.import_image, pg_temp.import_label, pg_temp.import_labelled;
	UPDATE pg_temp.import_labelled l SET changed = false
		FROM pg_temp.import_image m
		LEFT JOIN (SELECT n, array_agg(concat_ws('|', class_id, x1, y1, x2, y2, crowd, area) ORDER BY class_id, x1, y1, x2, y2, crowd, area) AS labels
			FROM pg_temp.import_label GROUP BY n) new USING (n)
		LEFT JOIN (SELECT a.image_id, array_agg(concat_ws('|', a.class_id, a.x1, a.y1, a.x2, a.y2, a.crowd, a.area) ORDER BY class_id, x1, y1, x2, y2, crowd, area) AS labels
			FROM @schema@.annotations a JOIN pg_temp.import_image USING (image_id) WHERE a.until IS NULL GROUP BY 1) old ON old.image_id = m.image_id
		WHERE m.n = l.n AND m.known AND new.labels IS NOT DISTINCT FROM old.labels;
	SELECT count(*) INTO labels FROM pg_temp.import_label b JOIN pg_temp.import_labelled l USING (n) WHERE l.changed AND b.class_id IS NOT NULL;
	IF frozen AND (EXISTS (SELECT FROM pg_temp.import_image WHERE NOT known OR changed) OR EXISTS (SELECT FROM pg_temp.import_labelled WHERE changed)) THEN
		current := @schema@.new_version(dataset, 'import', options);
	END IF;

	-- An image with another content is another image: what was measured of the first does not hold for it.  Its labels are taken over, if the
	-- import has no others.
	WITH moved AS (
		DELETE FROM @schema@.annotations a USING pg_temp.import_image m WHERE a.image_id = m.image_id AND m.changed AND a.since = current
		RETURNING m.n, a.class_id, a.x1, a.y1, a.x2, a.y2, a.crowd, a.area, a.source, a.annotation_id
	), ended AS (
		UPDATE @schema@.annotations a SET until = current FROM pg_temp.import_image m WHERE a.image_id = m.image_id AND m.changed AND a.since < current AND a.until IS NULL
		RETURNING m.n, a.class_id, a.x1, a.y1, a.x2, a.y2, a.crowd, a.area, a.source, a.annotation_id
	)
	INSERT INTO pg_temp.import_label (n, class_id, x1, y1, x2, y2, crowd, area, source, id)
		SELECT * FROM (TABLE moved UNION ALL TABLE ended) old WHERE NOT EXISTS (SELECT FROM pg_temp.import_labelled l WHERE l.n = old.n);
	INSERT INTO pg_temp.import_labelled SELECT m.n, true FROM pg_temp.import_image m WHERE m.changed
		ON CONFLICT (n) DO UPDATE SET changed = true;
	DELETE FROM @schema@.images i USING pg_temp.import_image m WHERE i.image_id = m.image_id AND m.changed AND m.since = current;
	UPDATE @schema@.images i SET until = current FROM pg_temp.import_image m WHERE i.image_id = m.image_id AND m.changed AND m.since < current;
	UPDATE pg_temp.import_image SET image_id = NULL WHERE changed;
	WITH placed AS (
		INSERT INTO @schema@.images (dataset, split, path, content, since)
			SELECT import_apply.dataset, m.split, m.path, s.content, current FROM pg_temp.import_image m
			LEFT JOIN @schema@.files s ON s.dataset = import_apply.dataset AND s.path = m.file WHERE m.image_id IS NULL ORDER BY m.n
			RETURNING image_id, split, path
	)
	UPDATE pg_temp.import_image m SET image_id = p.image_id FROM placed p WHERE p.split = m.split AND p.path = m.path;

	-- Labels of an image are replaced as a whole.
	DELETE FROM @schema@.annotations a USING pg_temp.import_image m JOIN pg_temp.import_labelled l USING (n) WHERE a.image_id = m.image_id AND l.changed AND a.since = current;
	UPDATE @schema@.annotations a SET until = current FROM pg_temp.import_image m JOIN pg_temp.import_labelled l USING (n)
		WHERE a.image_id = m.image_id AND l.changed AND a.since < current AND a.until IS NULL;
	INSERT INTO @schema@.annotations (image_id, class_id, x1, y1, x2, y2, crowd, area, source, since)
		SELECT m.image_id, b.class_id, b.x1, b.y1, b.x2, b.y2, b.crowd, b.area, b.source, current
		FROM pg_temp.import_label b JOIN pg_temp.import_labelled l USING (n) JOIN pg_temp.import_image m USING (n) WHERE l.changed AND b.class_id IS NOT NULL ORDER BY m.n, b.id;

	-- What was wrong with these files before is no longer.
	DELETE FROM @schema@.problems p WHERE p.dataset = import_apply.dataset
		AND (p.path = '' OR p.path IN (SELECT f.path FROM pg_temp.import_file f UNION ALL SELECT q.path FROM pg_temp.import_problem q));
	INSERT INTO @schema@.problems (dataset, image_id, path, line, kind, detail, since)
		SELECT import_apply.dataset, m.image_id, p.path, p.line, p.kind, p.detail, current FROM pg_temp.import_problem p LEFT JOIN pg_temp.import_image m USING (n);
	RETURN (SELECT jsonb_build_object('version', current, 'images', count(*) FILTER (WHERE NOT known), 'replaced', count(*) FILTER (WHERE known AND changed),
			'unchanged', count(*) FILTER (WHERE known AND NOT changed)) FROM pg_temp.import_image)
		|| jsonb_build_object('annotations', labels, 'problems', (SELECT count(*) FROM pg_temp.import_problem));
END $$;
COMMENT ON FUNCTION @schema@.import_apply(text, jsonb) IS 'step of import_files(): what differs from the newest version';

CREATE OR REPLACE FUNCTION @schema@.import_files(dataset text, format text DEFAULT 'auto', options jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	splits text[] := ARRAY(SELECT jsonb_array_elements_text(options -> 'splits'));
	default_split text := coalesce(options ->> 'split', 'train');
	layout text := format;
	unknown text := (SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) FROM jsonb_object_keys(options) k
		WHERE k NOT IN ('split', 'splits', 'keep', 'renumber', 'voc_origin', 'description'));
	classes bigint;
	counts jsonb;
BEGIN
	IF format NOT IN ('auto', 'yolo', 'coco', 'voc', 'folders') THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown format "%s" of data sets', format), HINT = 'Formats are auto, yolo, coco, voc and folders.';
	ELSIF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('import_files() has no option %s', unknown),
			HINT = 'Options are split, splits, keep, renumber, voc_origin and description.';
	END IF;
	-- One import of a data set at a time: the second finds what the first has left.
	PERFORM pg_advisory_xact_lock(hashtextextended(@schema_literal@ || ':' || dataset, 0));
	IF NOT EXISTS (SELECT FROM @schema@.files f WHERE f.dataset = import_files.dataset) THEN
		RAISE no_data_found USING MESSAGE = format('no files of data set "%s" wait to be imported', dataset), HINT = 'INSERT or COPY them into @schema@.files.';
	END IF;
	PERFORM @schema@.import_tables();
	INSERT INTO pg_temp.import_file (path, name, base, ext, role)
		SELECT f.path, p.name, regexp_replace(p.name, '^.*/', ''), e.ext, CASE WHEN e.ext IN ('jpg', 'jpeg', 'jpe', 'jfif', 'png', 'bmp', 'gif', 'webp', 'tif', 'tiff', 'avif', 'heic') THEN 'image' END
		FROM @schema@.files f, LATERAL @schema@.plain_path(f.path) AS p (name), LATERAL (SELECT lower(substring(p.name FROM '\.([^./]*)$'))) AS e (ext)
		WHERE f.dataset = import_files.dataset AND p.name IS NOT NULL AND e.ext IS NOT NULL AND p.name !~ '(^|/)(\.|__MACOSX/)';
	ANALYZE pg_temp.import_file;
	IF layout = 'auto' THEN
		SELECT CASE WHEN bool_or(f.name ~ '(^|/)labels/.*\.txt$' OR f.base ~ '^data\.ya?ml$') THEN 'yolo'
			WHEN bool_or(f.ext = 'json' AND EXISTS (SELECT FROM @schema@.files s WHERE s.dataset = import_files.dataset AND s.path = f.path
				AND (position('"images"'::bytea IN substr(s.content, 1, 1000000)) > 0 OR position('"annotations"'::bytea IN substr(s.content, 1, 1000000)) > 0))) THEN 'coco'
			WHEN bool_or(f.ext = 'xml') THEN 'voc'
			WHEN bool_or(f.name ~ '(^|/)JPEGImages/') THEN 'voc'
			WHEN bool_or(f.name ~ '(^|/)images/') OR EXISTS (SELECT FROM @schema@.datasets d WHERE d.dataset = import_files.dataset AND d.task = 'detection') THEN 'yolo'
			WHEN bool_or(f.ext = 'txt' AND f.name IN (SELECT regexp_replace(g.name, '[^.]*$', 'txt') FROM pg_temp.import_file g WHERE g.role = 'image')) THEN 'yolo'
			ELSE 'folders' END INTO layout FROM pg_temp.import_file f;
	END IF;

	INSERT INTO @schema@.datasets (dataset, task, description) VALUES (import_files.dataset, CASE layout WHEN 'folders' THEN 'classification' ELSE 'detection' END, options ->> 'description')
		ON CONFLICT DO NOTHING;
	INSERT INTO @schema@.versions (dataset, version, action, options) SELECT d.dataset, 1, 'import', import_files.options FROM @schema@.datasets d WHERE d.dataset = import_files.dataset
		AND NOT EXISTS (SELECT FROM @schema@.versions v WHERE v.dataset = d.dataset);
	CASE layout
		WHEN 'coco' THEN PERFORM @schema@.import_coco(dataset, splits, default_split);
		WHEN 'folders' THEN PERFORM @schema@.import_folders(dataset, splits, default_split);
		ELSE PERFORM @schema@.import_pairs(dataset, layout, splits, default_split, (options ->> 'voc_origin')::int);
	END CASE;
	INSERT INTO pg_temp.import_problem (path, kind, detail)
		SELECT f.path, 'bad_path', 'the path is absolute, leaves its folder, or is none' FROM @schema@.files f
		WHERE f.dataset = import_files.dataset AND @schema@.plain_path(f.path) IS NULL;
	INSERT INTO pg_temp.import_problem (path, kind, detail)
		SELECT '', 'duplicate_class', format('class "%s" has the numbers %s: all are the first one', class_name, string_agg(DISTINCT class_id::text, ', '))
		FROM pg_temp.import_class GROUP BY class_name HAVING count(DISTINCT class_id) > 1;
	classes := @schema@.import_classes(dataset, coalesce((options ->> 'renumber')::boolean, false));
	counts := @schema@.import_apply(dataset, options) || jsonb_build_object('format', layout, 'classes', classes,
		'ignored', (SELECT count(*) FROM @schema@.files f WHERE f.dataset = import_files.dataset AND NOT EXISTS (SELECT FROM pg_temp.import_file g WHERE g.path = f.path AND g.role IS NOT NULL)
			AND @schema@.plain_path(f.path) IS NOT NULL));
	IF NOT coalesce((options ->> 'keep')::boolean, false) THEN
		DELETE FROM @schema@.files f WHERE f.dataset = import_files.dataset;
	END IF;
	RETURN counts;
END $$;
COMMENT ON FUNCTION @schema@.import_files(text, text, jsonb) IS
	'the files that wait become images, classes, annotations and problems of a data set; format auto, yolo, coco, voc or folders; returns how many of each';
