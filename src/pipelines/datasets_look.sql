-- Pipeline "datasets": looking.  Charts as SVG text, contact sheets as JPEG, and report(): one page with all of it.
--
-- Charts are of a version; what needs measures (facts) shows the images that were measured.

-- A class's name, or its number.
CREATE OR REPLACE FUNCTION @schema@.class_label(set_name text, id int) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT coalesce((SELECT c.class_name FROM @schema@.classes c WHERE c.dataset = set_name AND c.class_id = id), '#' || id)
$$;
COMMENT ON FUNCTION @schema@.class_label(text, int) IS 'name of a class of a data set, or # and its number';

-- Classes in the order of their objects, with a position for charts.
CREATE OR REPLACE FUNCTION @schema@.classes_by_size(reference text, OUT n int, OUT class_id int, OUT class_name text, OUT objects bigint) RETURNS SETOF record LANGUAGE sql STABLE AS $$
	SELECT (row_number() OVER (ORDER BY count(*) DESC, a.class_id))::int - 1, a.class_id, @schema@.class_label((SELECT r.dataset FROM @schema@.resolve(reference) r), a.class_id), count(*)
	FROM @schema@.annotations_of(reference) a GROUP BY a.class_id ORDER BY 1
$$;
COMMENT ON FUNCTION @schema@.classes_by_size(text) IS 'classes that are annotated, the most frequent first; n is 0, 1, …';

CREATE OR REPLACE FUNCTION @schema@.plot_classes(reference text) RETURNS text LANGUAGE sql STABLE AS $$
	WITH c AS (SELECT * FROM @schema@.classes_by_size(reference)),
		counted AS (SELECT i.split, a.class_id, count(*) AS n FROM @schema@.annotations_of(reference) a JOIN @schema@.images i USING (image_id) GROUP BY 1, 2),
		s AS (SELECT split, row_number() OVER (ORDER BY array_position('{train,val,valid,validation,test}', split), split) AS k FROM (SELECT DISTINCT split FROM counted ORDER BY 1 LIMIT 8) x)
	SELECT millrace.plot_groups((SELECT coalesce(array_agg(class_name ORDER BY n), '{}') FROM c), (SELECT coalesce(array_agg(split ORDER BY k), '{}') FROM s),
		coalesce((SELECT array_agg(coalesce(d.n, 0)::float8 ORDER BY s.k, c.n) FROM s CROSS JOIN c LEFT JOIN counted d ON d.split = s.split AND d.class_id = c.class_id), '{}'),
		'Labels by class and split', 'labels')
$$;
COMMENT ON FUNCTION @schema@.plot_classes(text) IS 'SVG: labels of each class by split';

CREATE OR REPLACE FUNCTION @schema@.plot_box_sizes(reference text) RETURNS text LANGUAGE sql STABLE AS $$
	WITH c AS (SELECT * FROM @schema@.classes_by_size(reference)), b AS (SELECT a.*, c.n FROM @schema@.annotations_of(reference) a LEFT JOIN c USING (class_id) WHERE a.x1 IS NOT NULL)
	SELECT millrace.plot_scatter(coalesce(array_agg((x2 - x1)::float8 ORDER BY annotation_id), '{}'), coalesce(array_agg((y2 - y1)::float8 ORDER BY annotation_id), '{}'), coalesce(array_agg(n ORDER BY annotation_id), '{}'),
		(SELECT coalesce(array_agg(class_name ORDER BY n), '{}') FROM c), 'Box sizes', 'width, pixels', 'height, pixels') FROM b
$$;
COMMENT ON FUNCTION @schema@.plot_box_sizes(text) IS 'SVG: width and height of each box';

CREATE OR REPLACE FUNCTION @schema@.plot_box_areas(reference text, bins int DEFAULT 40) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT millrace.plot_histogram(coalesce(array_agg(sqrt(greatest((x2 - x1)::float8 * (y2 - y1), 0))), '{}'), bins, 'Box sizes: square root of the area, pixels')
	FROM @schema@.annotations_of(reference) WHERE x1 IS NOT NULL HAVING count(*) > 0
$$;
COMMENT ON FUNCTION @schema@.plot_box_areas(text, int) IS 'SVG: how many boxes there are of each size; NULL where there is none';

CREATE OR REPLACE FUNCTION @schema@.plot_box_centres(reference text, cells int DEFAULT 40) RETURNS text LANGUAGE sql STABLE AS $$
	WITH b AS (SELECT least(greatest(floor((a.x1 + a.x2) / 2 / f.width * cells), 0), cells - 1)::int AS x, least(greatest(floor((a.y1 + a.y2) / 2 / f.height * cells), 0), cells - 1)::int AS y
			FROM @schema@.annotations_of(reference) a JOIN @schema@.facts f USING (image_id) WHERE a.x1 IS NOT NULL AND f.width > 0),
		counted AS (SELECT x, y, count(*) AS n FROM b GROUP BY 1, 2)
	SELECT millrace.plot_heat(array_agg(coalesce(n, 0)::float8 ORDER BY g), cells, 'Box centres', 'from left to right', 'from top to bottom')
	FROM generate_series(0, cells * cells - 1) g LEFT JOIN counted ON counted.x = g % cells AND counted.y = g / cells
$$;
COMMENT ON FUNCTION @schema@.plot_box_centres(text, int) IS 'SVG: where in their images the centres of boxes lie';

-- ---- contact sheets ----

-- A label as millrace.image_sheet() draws it.
CREATE OR REPLACE FUNCTION @schema@.tile_box(set_name text, class_id int, x1 float8, y1 float8, x2 float8, y2 float8) RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT jsonb_build_object('class_id', tile_box.class_id, 'class_name', @schema@.class_label(set_name, tile_box.class_id), 'x1', x1, 'y1', y1, 'x2', x2, 'y2', y2)
$$;
COMMENT ON FUNCTION @schema@.tile_box(text, int, float8, float8, float8, float8) IS 'a box for contact sheets';

-- Boxes: an array for each image.
CREATE OR REPLACE FUNCTION @schema@.sheet(image_ids bigint[], captions text[], boxes jsonb DEFAULT NULL, title text DEFAULT NULL, tile int DEFAULT 160, columns int DEFAULT 6) RETURNS bytea LANGUAGE sql STABLE AS $$
	SELECT millrace.image_sheet(array_agg(i.content ORDER BY u.n), array_agg(u.caption ORDER BY u.n),
		jsonb_strip_nulls(jsonb_build_object('columns', sheet.columns, 'tile', sheet.tile, 'title', sheet.title, 'boxes', sheet.boxes)))
	FROM unnest(image_ids, captions) WITH ORDINALITY AS u (image_id, caption, n) LEFT JOIN @schema@.images i USING (image_id)
$$;
COMMENT ON FUNCTION @schema@.sheet(bigint[], text[], jsonb, text, int, int) IS 'JPEG: images in rows, with captions and boxes; NULL for no images';

CREATE OR REPLACE FUNCTION @schema@.sheet_of_class(reference text, class_id int, images int DEFAULT 12) RETURNS bytea LANGUAGE sql STABLE AS $$
	WITH chosen AS (
		SELECT a.image_id, jsonb_agg(@schema@.tile_box(i.dataset, a.class_id, a.x1, a.y1, a.x2, a.y2)) FILTER (WHERE a.x1 IS NOT NULL) AS boxes
		FROM @schema@.annotations_of(reference) a JOIN @schema@.images i USING (image_id)
		WHERE a.class_id = sheet_of_class.class_id AND i.content IS NOT NULL GROUP BY a.image_id ORDER BY md5(a.image_id::text) LIMIT sheet_of_class.images)
	SELECT @schema@.sheet(array_agg(s.image_id ORDER BY s.image_id), array_agg(i.split || '/' || i.path ORDER BY s.image_id), jsonb_agg(coalesce(s.boxes, '[]') ORDER BY s.image_id),
		@schema@.class_label((SELECT r.dataset FROM @schema@.resolve(reference) r), sheet_of_class.class_id))
	FROM chosen s JOIN @schema@.images i USING (image_id)
$$;
COMMENT ON FUNCTION @schema@.sheet_of_class(text, int, int) IS 'JPEG: ground truth of a class, images drawn evenly';

-- Findings of an audit: pairs side by side, others with the box in question.
CREATE OR REPLACE FUNCTION @schema@.sheet_of_findings(run bigint, kinds text[], findings int DEFAULT 12) RETURNS bytea LANGUAGE sql STABLE AS $$
	WITH chosen AS (
		SELECT f.*, row_number() OVER (ORDER BY f.score DESC NULLS LAST, f.finding_id) AS k FROM @schema@.findings f
		WHERE f.run_id = run AND f.kind = ANY (kinds) AND f.image_id IS NOT NULL ORDER BY k LIMIT sheet_of_findings.findings),
	tiles AS (
		SELECT k * 2 AS n, image_id, coalesce(E'\n' || trim_scale(round(score::numeric, 3)), '') AS caption,
			coalesce(CASE WHEN evidence ? 'box' THEN jsonb_build_array(@schema@.tile_box(d.dataset, chosen.class_id, (evidence -> 'box' ->> 0)::float8, (evidence -> 'box' ->> 1)::float8, (evidence -> 'box' ->> 2)::float8, (evidence -> 'box' ->> 3)::float8)) END,
				(SELECT jsonb_build_array(@schema@.tile_box(d.dataset, a.class_id, a.x1, a.y1, a.x2, a.y2)) FROM @schema@.annotations a WHERE a.annotation_id = chosen.annotation_id AND a.x1 IS NOT NULL), '[]') AS boxes FROM chosen, @schema@.runs d WHERE d.run_id = run
		UNION ALL
		SELECT k * 2 + 1, other_image_id, NULL, '[]' FROM chosen WHERE other_image_id IS NOT NULL)
	SELECT @schema@.sheet(array_agg(t.image_id ORDER BY t.n), array_agg(i.split || '/' || i.path || coalesce(t.caption, '') ORDER BY t.n), jsonb_agg(t.boxes ORDER BY t.n))
	FROM tiles t JOIN @schema@.images i USING (image_id)
$$;
COMMENT ON FUNCTION @schema@.sheet_of_findings(bigint, text[], int) IS 'JPEG: images of findings, those with the highest scores; of pairs both';

-- ---- report ----

CREATE OR REPLACE FUNCTION @schema@.html(content text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT replace(replace(replace(replace(content, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;')
$$;
COMMENT ON FUNCTION @schema@.html(text) IS 'a text as HTML shows it';

-- A table of rows: heads, then cells; numbers to the right.
CREATE OR REPLACE FUNCTION @schema@.html_table(heads text[], cells text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT '<div class="wide"><table><tr>' || (SELECT string_agg('<th>' || @schema@.html(h) || '</th>', '' ORDER BY n) FROM unnest(heads) WITH ORDINALITY AS u (h, n)) || '</tr>'
		|| coalesce((SELECT string_agg(r, '' ORDER BY n) FROM (
			SELECT n / cardinality(heads) AS n, '<tr>' || string_agg(CASE WHEN c ~ '^-?[0-9.,]+( %)?$' THEN '<td class="n">' ELSE '<td>' END || coalesce(@schema@.html(c), '') || '</td>', '' ORDER BY u.n) || '</tr>' AS r
			FROM (SELECT c, o - 1 AS n FROM unnest(cells) WITH ORDINALITY AS v (c, o)) u GROUP BY u.n / cardinality(heads)) x), '') || '</table></div>'
$$;
COMMENT ON FUNCTION @schema@.html_table(text[], text[]) IS 'rows as an HTML table';

CREATE OR REPLACE FUNCTION @schema@.html_picture(content bytea, alt text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT '<img alt="' || @schema@.html(alt) || '" src="data:image/jpeg;base64,' || translate(encode(content, 'base64'), E'\n', '') || '">'
$$;
COMMENT ON FUNCTION @schema@.html_picture(bytea, text) IS 'a JPEG within an HTML page';

CREATE OR REPLACE FUNCTION @schema@.report(reference text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	v record;
	run bigint;
	page text;
	part text;
	sheet bytea;
	c record;
	k record;
	map record;
	unknown text;
BEGIN
	SELECT string_agg(o, ', ') INTO unknown FROM jsonb_object_keys(options) o WHERE o NOT IN ('classes', 'images', 'findings');
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown option of report: %s', unknown), HINT = 'Options are classes, images and findings: how many of each are shown.';
	END IF;
	SELECT r.dataset, r.version, d.task, d.description, n.action, n.frozen_at INTO v
		FROM @schema@.resolve(reference) r JOIN @schema@.datasets d USING (dataset) JOIN @schema@.versions n ON n.dataset = r.dataset AND n.version = r.version;
	SELECT max(run_id) INTO run FROM @schema@.runs r WHERE r.dataset = v.dataset AND r.version = v.version AND r.activity = 'audit' AND r.ended_at IS NOT NULL;

	page := '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>' || @schema@.html(v.dataset) || '</title><style>'
		|| 'body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:0 auto;padding:16px;color:#222;background:#fff}h1{margin:0 0 4px}h2{margin:32px 0 8px;border-bottom:2px solid #ddd}'
		|| 'table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #eee}td.n{text-align:right;font-variant-numeric:tabular-nums}'
		|| '.wide{overflow-x:auto}img,svg{max-width:100%;height:auto}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:16px}'
		|| '.ok,.bad{padding:8px 14px;border-radius:6px;font-weight:600}.ok{background:#e3f4e1;color:#1c5a1a}.bad{background:#fbe3e4;color:#8c1c22}.blocking{color:#b3261e;font-weight:600}.small{color:#666}'
		|| '@media(max-width:520px){.charts{grid-template-columns:1fr}}</style></head><body>';
	page := page || format('<h1>%s</h1><p class="small">version %s, made by %s%s · %s · state %s · %s</p>', @schema@.html(v.dataset), v.version, @schema@.html(v.action),
		CASE WHEN v.frozen_at IS NOT NULL THEN ', frozen' ELSE '' END, v.task, left(encode(@schema@.dataset_state(reference), 'hex'), 12), to_char(now(), 'YYYY-MM-DD HH24:MI TZ'));
	page := page || coalesce('<p>' || @schema@.html(v.description) || '</p>', '');

	-- May it be trained on?
	SELECT string_agg(format('%s × %s', n, kind), ', ') INTO part FROM (SELECT f.kind, count(*) AS n FROM @schema@.blocking_findings(reference) f GROUP BY 1 ORDER BY 2 DESC) b;
	page := page || CASE WHEN part IS NOT NULL THEN '<p class="bad">Not for training: ' || @schema@.html(part) || '</p>'
		WHEN run IS NULL THEN '<p class="bad">This version was not audited.</p>' ELSE '<p class="ok">Nothing stands against training on it.</p>' END;
	SELECT string_agg('<p class="small">Waived: ' || @schema@.html(w.kind || ', ' || w.reason || ' (' || w.waived_by || ')') || '</p>', '') INTO part FROM @schema@.waivers w WHERE w.dataset = v.dataset;
	page := page || coalesce(part, '');

	-- Splits
	SELECT @schema@.html_table('{split,images,labels,images without labels,MB}', array_agg(u.c ORDER BY s.o, s.split, u.n)) INTO part FROM (
		SELECT i.split, array_position('{train,val,valid,validation,test}', i.split) AS o, count(*) AS images, sum(coalesce(a.n, 0)) AS labels, count(*) FILTER (WHERE a.n IS NULL) AS empty, sum(length(i.content)) AS bytes
		FROM @schema@.images_of(reference) i LEFT JOIN (SELECT image_id, count(*) AS n FROM @schema@.annotations_of(reference) GROUP BY 1) a USING (image_id) GROUP BY i.split) s,
		unnest(ARRAY[s.split, s.images::text, s.labels::text, s.empty::text, round(s.bytes / 1e6, 1)::text]) WITH ORDINALITY AS u (c, n);
	page := page || '<h2>Splits</h2>' || coalesce(part, '<p>There are no images.</p>');

	-- Findings
	IF run IS NOT NULL THEN
		SELECT @schema@.html_table('{severity,kind,findings,images,what it is,fix}', array_agg(u.c ORDER BY f.o, f.n DESC, f.kind, u.n)) INTO part FROM (
			SELECT f.severity, f.kind, count(*) AS n, count(DISTINCT f.image_id) AS images, x.description, x.fix, array_position('{blocking,warning,info}', f.severity) AS o
			FROM @schema@.findings f JOIN @schema@.kinds x USING (kind) WHERE f.run_id = run GROUP BY f.severity, f.kind, x.description, x.fix) f,
			unnest(ARRAY[f.severity, f.kind, f.n::text, f.images::text, f.description, coalesce(f.fix || '()', '')]) WITH ORDINALITY AS u (c, n);
		page := page || format('<h2>Findings</h2><p class="small">audit %s</p>', run) || replace(coalesce(part, '<p>None.</p>'), '<td>blocking</td>', '<td class="blocking">blocking</td>');
	END IF;

	-- Charts
	page := page || '<h2>Labels</h2>';
	IF EXISTS (SELECT FROM @schema@.annotations_of(reference)) THEN
		page := page || @schema@.plot_classes(reference);
	ELSE
		page := page || '<p>There are none.</p>';
	END IF;
	IF EXISTS (SELECT FROM @schema@.annotations_of(reference) a WHERE a.x1 IS NOT NULL) THEN
		page := page || '<div class="charts">' || @schema@.plot_box_sizes(reference) || @schema@.plot_box_centres(reference) || @schema@.plot_box_areas(reference) || '</div>';
	END IF;
	part := @schema@.report_maps(reference);
	page := page || coalesce('<h2>Latent space</h2>' || part, '');

	-- Pictures
	page := page || '<h2>Ground truth</h2>';
	FOR c IN SELECT * FROM @schema@.classes_by_size(reference) LIMIT coalesce((options ->> 'classes')::int, 12) LOOP
		sheet := @schema@.sheet_of_class(reference, c.class_id, coalesce((options ->> 'images')::int, 6));
		page := page || coalesce('<p>' || @schema@.html_picture(sheet, c.class_name) || '</p>', '');
	END LOOP;
	IF run IS NOT NULL THEN
		FOR k IN SELECT f.kind, x.description, array_position('{blocking,warning,info}', min(f.severity)) AS o, count(*) AS n FROM @schema@.findings f JOIN @schema@.kinds x USING (kind)
				WHERE f.run_id = run AND f.image_id IS NOT NULL GROUP BY f.kind, x.description ORDER BY 3, 4 DESC, 1 LOOP
			sheet := @schema@.sheet_of_findings(run, ARRAY[k.kind], coalesce((options ->> 'findings')::int, 6));
			page := page || coalesce(format('<h3>%s</h3><p class="small">%s: %s</p>', @schema@.html(k.kind), k.n, @schema@.html(k.description)) || @schema@.html_picture(sheet, k.kind), '');
		END LOOP;
	END IF;

	-- Detectors
	SELECT @schema@.html_table('{run,model,images of,objects,mAP50,mAP50-95,precision,recall,F1,at confidence}', array_agg(u.c ORDER BY e.run_id, u.n)) INTO part
		FROM @schema@.evaluations e, unnest(ARRAY[e.run_id::text, e.model, coalesce(e.splits ->> 0, 'all splits'), e.objects::text, round(e.map50::numeric, 4)::text, round(e.map50_95::numeric, 4)::text, round(e."precision"::numeric, 3)::text,
			round(e.recall::numeric, 3)::text, round(e.f1::numeric, 3)::text, round(e.threshold::numeric, 3)::text]) WITH ORDINALITY AS u (c, n)
		WHERE e.dataset = v.dataset AND e.version = v.version HAVING count(*) > 0;
	page := page || coalesce('<h2>Detectors</h2>' || part, '');
	RETURN page || '</body></html>';
END $$;
COMMENT ON FUNCTION @schema@.report(text, jsonb) IS
	'one self-contained HTML page of a version: findings, charts, latent maps, contact sheets, evaluations; options classes (12), images of each (6), findings of each kind (6) that are shown';

-- The newest stored map of each kind of a version; NULL where there are none.
CREATE OR REPLACE FUNCTION @schema@.report_maps(reference text) RETURNS text LANGUAGE sql STABLE AS $$
	WITH c AS (SELECT * FROM @schema@.classes_by_size(reference))
	SELECT string_agg(p.svg || format('<p class="small">%s of %s %s, by %s%s, embedded by %s</p>', m.points, m.items, m.what, m.method,
			coalesce(', divergence ' || round(m.kl_divergence::numeric, 3), ''), @schema@.html(m.embedded_by)), '' ORDER BY m.what, m.method DESC)
	FROM (SELECT DISTINCT ON (x.what, x.method) x.* FROM @schema@.resolve(reference) r JOIN @schema@.maps x ON x.dataset = r.dataset AND x.version = r.version
			ORDER BY x.what, x.method, x.map_id DESC) m,
		LATERAL (SELECT array_agg(q.x::float8) AS x, array_agg(q.y::float8) AS y, array_agg(q.z::float8) AS z, array_agg(coalesce(c.n, -1)) AS groups, count(q.z) > 0 AS space
			FROM @schema@.map_points q LEFT JOIN c USING (class_id) WHERE q.map_id = m.map_id) a,
		LATERAL (SELECT initcap(m.what) || ' in latent space: ' || CASE m.method WHEN 'pca' THEN 'principal components' ELSE 't-SNE' END) AS t (title),
		LATERAL (SELECT coalesce(array_agg(c.class_name ORDER BY c.n), '{}') FROM c) AS l (names),
		LATERAL (SELECT CASE WHEN a.space THEN millrace.plot_turning(a.x, a.y, a.z, a.groups, l.names, t.title)
			ELSE millrace.plot_scatter(a.x, a.y, a.groups, l.names, t.title, NULL, NULL, true) END) AS p (svg)
$$;
COMMENT ON FUNCTION @schema@.report_maps(text) IS 'pictures of the latent maps that were made of a version, as HTML';
