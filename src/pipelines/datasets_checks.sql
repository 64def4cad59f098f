-- Pipeline "datasets": the checks of files, images, annotations and classes, and what to do about classes that are rare.
--
-- A check is one or a few queries over facts and annotations; thresholds are read once, before them.  What is odd is odd among the
-- images of the same data set where that can be said: then a kind has a threshold of its own and is also compared with the median (and
-- the median absolute deviation, MAD) of up to 5,000 images, so that a data set of night scenes is not one of dark images.

INSERT INTO @schema@.checks ("check", function, position, description) VALUES
	('files', 'check_files', 10, 'what an import could not read, images that are not there, cannot be decoded, or are not what their name says'),
	('images', 'check_images', 20, 'sizes, light, contrast, sharpness, colour, and what augmentation may have damaged'),
	('annotations', 'check_annotations', 30, 'boxes and labels that cannot be right, or hardly'),
	('placement', 'check_placement', 35, 'whether boxes lie where the objects are: the colours across their sides, here and elsewhere in the image'),
	('classes', 'check_classes', 40, 'how many objects of which class are in which split')
	ON CONFLICT DO NOTHING;

INSERT INTO @schema@.kinds (kind, "check", severity, thresholds, fix, description) VALUES
	('import_problem', 'files', 'warning', '{}', NULL, 'a line or an entry of an annotation file that could not be taken as it is'),
	('unreadable_file', 'files', 'blocking', '{}', NULL, 'an annotation file that could not be read at all: its labels are missing'),
	('missing_image', 'files', 'blocking', '{}', 'drop_images', 'labels or a list name an image that is not there'),
	('unlabelled_image', 'files', 'warning', '{}', 'drop_images', 'an image without a class, in a data set for classification'),
	('background_image', 'files', 'info', '{}', NULL, 'an image without an object, in a data set for detection: background, or labels were forgotten'),
	('corrupt_image', 'files', 'blocking', '{}', 'drop_images', 'an image that cannot be decoded'),
	('truncated_image', 'files', 'blocking', '{}', 'drop_images', 'an image that is cut short'),
	('unsupported_image', 'files', 'blocking', '{}', 'drop_images', 'an image of another format than JPEG and PNG, or too large for millrace.image_max_pixels or image_max_bytes'),
	('wrong_extension', 'files', 'warning', '{}', NULL, 'the name says another format than the content'),
	('odd_size', 'images', 'warning', '{"ratio": 3, "mads": 5}', NULL, 'sides (the root of the area) more than ratio times larger or smaller than the median, and more than that many MADs from it'),
	('tiny_image', 'images', 'warning', '{"pixels": 10}', 'drop_images', 'the shorter side has fewer pixels: Ultralytics passes over such images'),
	('odd_aspect', 'images', 'warning', '{"ratio": 0.35, "mads": 5}', NULL, 'the shorter side is less than ratio of the longer, and the aspect more than that many MADs from the median'),
	('dark', 'images', 'warning', '{"share": 0.99}', 'drop_images', 'more than this share of the pixels is dark (luma below 82 of 255), which in half of the data set it is not'),
	('bright', 'images', 'warning', '{"share": 0.95}', 'drop_images', 'more than this share of the pixels is bright (luma above 242 of 255), which in half of the data set it is not'),
	('low_contrast', 'images', 'warning', '{"contrast": 8}', NULL, 'luma deviates by less, and by less than a third of the median; not where the image is dark, bright or of low information'),
	('low_information', 'images', 'warning', '{"entropy": 1.4}', 'drop_images', 'the histogram of luma has fewer bits, and fewer than half the median: an even colour, a placeholder'),
	('blurred', 'images', 'warning', '{"sharpness": 0.03}', NULL, 'variance of the Laplacian over the square of contrast is less, and less than a third of the median; not where information is low'),
	('grey', 'images', 'info', '{"colour_share": 0.8}', NULL, 'an image without colour where at least this share of the images has some'),
	('exif_rotated', 'images', 'info', '{}', NULL, 'the file says to turn the image when it is shown: tools that do not would have the boxes elsewhere'),
	('black_corners', 'images', 'warning', '{"share": 0.005}', NULL, 'a rotation left this share of the image in empty corners'),
	('repeated_tiles', 'images', 'warning', '{"share": 0.5}', 'drop_images', 'at least this share of the image''s tiles are copies of other tiles: an augmentation gone wrong'),
	('unknown_class', 'annotations', 'blocking', '{}', 'drop_boxes', 'the class is none of the data set''s'),
	('degenerate_box', 'annotations', 'blocking', '{}', 'drop_boxes', 'a box without area, with its corners swapped, or that is no number'),
	('box_out_of_range', 'annotations', 'blocking', '{"pixels": 1}', 'clamp_boxes', 'a box reaches more than so many pixels beyond its image'),
	('tiny_box', 'annotations', 'warning', '{"pixels": 3, "image_size": 640}', 'drop_boxes', 'the shorter side has fewer pixels, once the image''s longer side is scaled down to image_size'),
	('huge_box', 'annotations', 'warning', '{"share": 0.95, "median": 0.5}', NULL, 'a box covers more than this share of its image, where half of the boxes cover less than median'),
	('duplicate_box', 'annotations', 'warning', '{"iou": 0.95}', 'drop_boxes', 'an earlier box of the same class is all but the same'),
	('overlapping_boxes', 'annotations', 'warning', '{"iou": 0.7}', NULL, 'two boxes of a class overlap this much: one object twice, or two that hide each other'),
	('conflicting_boxes', 'annotations', 'warning', '{"iou": 0.95}', NULL, 'two boxes that are all but the same have different classes'),
	('conflicting_labels', 'annotations', 'warning', '{}', NULL, 'one image has several classes'),
	('background_share', 'annotations', 'info', '{"share": 0.1}', NULL, 'more than this share of a split''s images has no object (up to a tenth is said to help detectors)'),
	('misplaced_boxes', 'placement', 'warning', '{"fit": 0.5, "mads": 3.5, "gain": 2, "elsewhere": 0.5}', NULL, 'colours across the sides of an image''s boxes differ by less than fit of the median (and by that many MADs of its logarithm), and by gain times more, elsewhere of the median, were the boxes mirrored, turned or shifted: it was augmented without them'),
	('class_imbalance', 'classes', 'warning', '{"ratio": 10}', 'rebalance', 'the most frequent class of a split has more than so many times the objects of the rarest'),
	('small_split', 'classes', 'warning', '{"half_width": 0.05, "confidence": 0.95}', NULL, 'too few objects in a split that is evaluated on: the interval of a recall of one half (Wilson) is wider to each side'),
	('small_class', 'classes', 'info', '{"half_width": 0.1, "confidence": 0.95}', NULL, 'too few objects of a class in a split that is evaluated on: the interval of its recall is wider to each side'),
	('missing_class', 'classes', 'warning', '{}', NULL, 'a class has no object in a split'),
	('untrained_class', 'classes', 'warning', '{}', NULL, 'a class has objects in other splits and none in train: it cannot be learned')
	ON CONFLICT DO NOTHING;

-- ---- files ----

CREATE OR REPLACE FUNCTION @schema@.check_files(run bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place record;
	before bigint := @schema@.audit_before(run, 'files');
BEGIN
	PERFORM @schema@.need_items(run);
	SELECT r.dataset, r.version, d.task INTO place FROM @schema@.runs r JOIN @schema@.datasets d USING (dataset) WHERE r.run_id = run;
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, evidence, suggestion)
		SELECT run, k.kind, k.severity, i.split, p.image_id,
			jsonb_strip_nulls(jsonb_build_object('problem', p.kind, 'path', p.path, 'line', p.line, 'detail', p.detail)),
			format('Correct %s%s and import it again.', p.path, ', line ' || p.line)
		FROM @schema@.runs r JOIN @schema@.problems p ON p.dataset = r.dataset AND p.since <= r.version AND (p.until IS NULL OR p.until > r.version)
			LEFT JOIN @schema@.images i ON i.image_id = p.image_id
			JOIN @schema@.looked_for(run) k ON k.kind = CASE
				WHEN p.kind IN ('binary_file', 'utf16_file', 'file_too_large', 'wrong_format', 'invalid_json', 'invalid_xml', 'invalid_yaml') THEN 'unreadable_file'
				ELSE 'import_problem' END
		WHERE r.run_id = run;

	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, evidence, suggestion)
		SELECT run, k.kind, k.severity, x.split, x.image_id, e.evidence, e.suggestion
		FROM (SELECT i.image_id, i.split, i.path, f.format, f.message,
				CASE WHEN f.sqlstate IS NOT NULL THEN CASE WHEN f.message ~ 'too large|not supported|data begins like' THEN 'unsupported_image'
						WHEN f.message ~ 'cut short|it ends|premature end' THEN 'truncated_image' ELSE 'corrupt_image' END
					WHEN CASE f.format WHEN 'jpeg' THEN lower(right(i.path, 4)) NOT IN ('.jpg', '.jpe', 'jpeg', 'jfif') ELSE lower(right(i.path, 4)) <> '.png' END
						AND i.path ~ '\.[^./]+$' THEN 'wrong_extension' END AS hit
			FROM pg_temp.millrace_items t JOIN @schema@.images i USING (image_id) JOIN @schema@.facts f USING (image_id) WHERE t.seen_by > coalesce(before, -1)
			UNION ALL
			SELECT i.image_id, i.split, i.path, NULL, NULL, 'missing_image' FROM pg_temp.millrace_items t JOIN @schema@.images i USING (image_id) WHERE NOT t.present) x
			JOIN @schema@.looked_for(run) k ON k.kind = x.hit
			CROSS JOIN LATERAL (SELECT CASE x.hit
					WHEN 'missing_image' THEN jsonb_build_object('labels', (SELECT count(*) FROM @schema@.annotations a WHERE a.image_id = x.image_id AND a.until IS NULL))
					WHEN 'wrong_extension' THEN jsonb_build_object('path', x.path, 'format', x.format)
					ELSE jsonb_build_object('message', x.message, 'bytes', (SELECT octet_length(i.content) FROM @schema@.images i WHERE i.image_id = x.image_id)) END AS evidence,
				CASE x.hit WHEN 'missing_image' THEN 'Add the file, or remove the image with its labels: drop_images().'
					WHEN 'wrong_extension' THEN format('Rename the file: its content is %s.', upper(x.format))
					WHEN 'unsupported_image' THEN 'Convert it to JPEG or PNG of a supported size, or remove it: drop_images().'
					ELSE 'Fetch the file again from where it came, or remove the image: drop_images().' END AS suggestion) e
		WHERE x.hit IS NOT NULL;
	PERFORM @schema@.carry_findings(run, before, '{corrupt_image,truncated_image,unsupported_image,wrong_extension}');

	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, suggestion)
		SELECT run, k.kind, k.severity, i.split, i.image_id,
			CASE place.task WHEN 'detection' THEN 'Look at it: if there are objects, label them.' ELSE 'Label it, or remove it: drop_images().' END
		FROM pg_temp.millrace_items i, @schema@.looked_for(run) k
		WHERE k.kind = CASE place.task WHEN 'detection' THEN 'background_image' ELSE 'unlabelled_image' END AND i.present AND i.labels = 0;
END $$;
COMMENT ON FUNCTION @schema@.check_files(bigint) IS 'the check files of an audit';

-- ---- images ----

CREATE OR REPLACE FUNCTION @schema@.check_images(run bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place record;
	t record;
	m record;
	medians jsonb;
	total bigint;
	every bigint;			-- one of so many images is looked at for medians
	before bigint := @schema@.audit_before(run, 'images');
	kinds text[] := ARRAY(SELECT k.kind FROM @schema@.looked_for(run) k);
BEGIN
	PERFORM @schema@.need_items(run);
	SELECT r.dataset, r.version, d.task INTO place FROM @schema@.runs r JOIN @schema@.datasets d USING (dataset) WHERE r.run_id = run;
	SELECT count(*), ceil(greatest(count(*), 1) / 5000.0) INTO total, every FROM pg_temp.millrace_items;
	SELECT @schema@.threshold(run, 'odd_size', 'ratio') AS size_ratio, @schema@.threshold(run, 'odd_size', 'mads') AS size_mads,
		@schema@.threshold(run, 'tiny_image', 'pixels') AS pixels,
		@schema@.threshold(run, 'odd_aspect', 'ratio') AS aspect_ratio, @schema@.threshold(run, 'odd_aspect', 'mads') AS aspect_mads,
		@schema@.threshold(run, 'dark', 'share')::real AS dark, @schema@.threshold(run, 'bright', 'share')::real AS bright,
		@schema@.threshold(run, 'low_contrast', 'contrast') AS contrast, @schema@.threshold(run, 'low_information', 'entropy') AS entropy,
		@schema@.threshold(run, 'blurred', 'sharpness') AS sharpness, @schema@.threshold(run, 'grey', 'colour_share') AS colour_share,
		@schema@.threshold(run, 'black_corners', 'share')::real AS corners, @schema@.threshold(run, 'repeated_tiles', 'share')::real AS tiles
		INTO t;
	-- Medians stay those of the audit before until a tenth of the images is new: so what was said of the others holds.
	SELECT o.figures -> 'images_median' INTO medians FROM @schema@.runs o
		WHERE o.run_id = before AND (o.figures #>> '{images_median,total}')::bigint * 1.1 >= total;
	IF medians IS NULL THEN
		before := NULL;
		WITH sample AS MATERIALIZED (
			SELECT ln(f.width::float8 * f.height) / 2 AS side, ln(f.width::float8 / f.height) AS aspect, f.dark_share, f.bright_share, f.contrast, f.entropy,
				f.sharpness / nullif(f.contrast::float8 ^ 2, 0) AS sharpness, f.channels
			FROM pg_temp.millrace_items i JOIN @schema@.facts f USING (image_id) WHERE f.sqlstate IS NULL AND i.image_id % every = 0),
		middle AS (
			SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY side) AS side, percentile_cont(0.5) WITHIN GROUP (ORDER BY aspect) AS aspect,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY dark_share) AS dark, percentile_cont(0.5) WITHIN GROUP (ORDER BY bright_share) AS bright,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY contrast) AS contrast, percentile_cont(0.5) WITHIN GROUP (ORDER BY entropy) AS entropy,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY sharpness) AS sharpness, avg((channels > 1)::int)::float8 AS colour_share, count(*) AS sampled
			FROM sample)
		SELECT to_jsonb(md) || to_jsonb(d) || jsonb_build_object('total', total) INTO medians
			FROM middle md, LATERAL (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(s.side - md.side)) AS side_mad,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(s.aspect - md.aspect)) AS aspect_mad FROM sample s) d;
	END IF;
	PERFORM @schema@.note_figures(run, 'images_median', medians);
	SELECT md.*,
		-- far from the median: by so many MADs (1.4826 of them are a standard deviation, of what is normal), and by a factor
		greatest(ln(t.size_ratio), t.size_mads * 1.4826 * md.side_mad) AS side_far, greatest(ln(2), t.aspect_mads * 1.4826 * md.aspect_mad) AS aspect_far,
		least(t.contrast, md.contrast / 3) AS low_contrast, least(t.entropy, md.entropy / 2) AS low_entropy, least(t.sharpness, md.sharpness / 3) AS blurred
		INTO m
		FROM jsonb_to_record(medians) AS md (side float8, aspect float8, dark float8, bright float8, contrast float8, entropy float8, sharpness float8, colour_share float8, side_mad float8, aspect_mad float8);
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, x.split, x.image_id, e.score, e.evidence, e.suggestion
		FROM (SELECT i.split, f.image_id, f.width, f.height, f.orientation, f.dark_share, f.bright_share, f.brightness, f.contrast, f.entropy, f.sharpness, f.black_corners, f.repeated,
				ARRAY[
					CASE WHEN abs(ln(f.width::float8 * f.height) / 2 - m.side) > m.side_far THEN 'odd_size' END,
					CASE WHEN least(f.width, f.height) < t.pixels THEN 'tiny_image' END,
					CASE WHEN least(f.width, f.height) < t.aspect_ratio * greatest(f.width, f.height) AND abs(ln(f.width::float8 / f.height) - m.aspect) > m.aspect_far THEN 'odd_aspect' END,
					CASE WHEN f.dark_share > t.dark AND m.dark <= t.dark THEN 'dark' END,
					CASE WHEN f.bright_share > t.bright AND m.bright <= t.bright THEN 'bright' END,
					CASE WHEN f.entropy < m.low_entropy THEN 'low_information' END,
					CASE WHEN f.contrast < m.low_contrast AND f.dark_share <= t.dark AND f.bright_share <= t.bright AND f.entropy >= m.low_entropy THEN 'low_contrast' END,
					CASE WHEN f.sharpness < m.blurred * f.contrast::float8 ^ 2 AND f.entropy >= m.low_entropy THEN 'blurred' END,
					CASE WHEN f.channels = 1 AND m.colour_share >= t.colour_share THEN 'grey' END,
					CASE WHEN f.orientation > 1 THEN 'exif_rotated' END,
					CASE WHEN f.black_corners > t.corners THEN 'black_corners' END,
					CASE WHEN f.repeated >= t.tiles THEN 'repeated_tiles' END] AS hits
			FROM pg_temp.millrace_items i JOIN @schema@.facts f USING (image_id) WHERE f.sqlstate IS NULL AND i.seen_by > coalesce(before, -1)) x
			CROSS JOIN LATERAL unnest(x.hits) AS h (kind)
			JOIN @schema@.looked_for(run) k ON k.kind = h.kind
			CROSS JOIN LATERAL (SELECT * FROM (VALUES
				('odd_size', sqrt(x.width::float8 * x.height) / exp(m.side), jsonb_build_object('width', x.width, 'height', x.height, 'median_side', round(exp(m.side)::numeric, 1)),
					'Look whether it belongs here; resize it as the others, or remove it.'),
				('tiny_image', least(x.width, x.height), jsonb_build_object('width', x.width, 'height', x.height), 'Replace it by a larger one, or remove it: drop_images().'),
				('odd_aspect', x.width::float8 / x.height, jsonb_build_object('width', x.width, 'height', x.height, 'median_aspect', round(exp(m.aspect)::numeric, 3)),
					'Crop it, or cut it into parts: resized to a square little of it is left.'),
				('dark', x.dark_share, jsonb_build_object('dark_share', x.dark_share, 'brightness', x.brightness, 'median_dark_share', m.dark), 'Expose it better, or remove it: drop_images().'),
				('bright', x.bright_share, jsonb_build_object('bright_share', x.bright_share, 'brightness', x.brightness, 'median_bright_share', m.bright), 'Expose it better, or remove it: drop_images().'),
				('low_information', x.entropy, jsonb_build_object('entropy', x.entropy, 'median_entropy', m.entropy), 'There is next to nothing in it: remove it with drop_images().'),
				('low_contrast', x.contrast, jsonb_build_object('contrast', x.contrast, 'median_contrast', m.contrast), 'Stretch its histogram, or remove it.'),
				('blurred', x.sharpness / nullif(x.contrast::float8 ^ 2, 0), jsonb_build_object('sharpness', x.sharpness, 'contrast', x.contrast, 'median_ratio', m.sharpness),
					'Remove it, unless blur is to be learned.'),
				('grey', NULL, jsonb_build_object('colour_share', m.colour_share), 'Make sure that colour does not tell its class; make others grey, too (augmentation).'),
				('exif_rotated', x.orientation, jsonb_build_object('orientation', x.orientation), 'Turn its pixels and drop the EXIF orientation, and make sure that its boxes were drawn on the upright image.'),
				('black_corners', x.black_corners, jsonb_build_object('share', x.black_corners), 'Crop what the rotation left empty, and turn boxes with their image.'),
				('repeated_tiles', x.repeated, jsonb_build_object('share', x.repeated), 'Remove it: drop_images().'))
				AS v (kind, score, evidence, suggestion) WHERE v.kind = h.kind) e
		WHERE x.hits && kinds;
	PERFORM @schema@.carry_findings(run, before, ARRAY(SELECT k.kind FROM @schema@.kinds k WHERE k."check" = 'images'));
END $$;
COMMENT ON FUNCTION @schema@.check_images(bigint) IS 'the check images of an audit';

-- ---- annotations ----

CREATE OR REPLACE FUNCTION @schema@.check_annotations(run bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place record;
	t record;
	every bigint;
	boxes bigint;
	median double precision;
	kinds text[] := ARRAY(SELECT k.kind FROM @schema@.looked_for(run) k);
	known int[];
	odd bigint[];
BEGIN
	PERFORM @schema@.need_items(run);
	SELECT r.dataset, r.version, d.task INTO place FROM @schema@.runs r JOIN @schema@.datasets d USING (dataset) WHERE r.run_id = run;
	known := ARRAY(SELECT c.class_id FROM @schema@.classes c WHERE c.dataset = place.dataset);
	SELECT @schema@.threshold(run, 'box_out_of_range', 'pixels')::real AS beyond, @schema@.threshold(run, 'tiny_box', 'pixels') AS tiny,
		@schema@.threshold(run, 'tiny_box', 'image_size') AS image_size, @schema@.threshold(run, 'huge_box', 'share') AS huge, @schema@.threshold(run, 'huge_box', 'median') AS huge_median,
		@schema@.threshold(run, 'duplicate_box', 'iou') AS duplicate, @schema@.threshold(run, 'overlapping_boxes', 'iou') AS overlapping,
		@schema@.threshold(run, 'conflicting_boxes', 'iou') AS conflicting, @schema@.threshold(run, 'background_share', 'share') AS background INTO t;
	SELECT coalesce(sum(i.labels - i.whole), 0), ceil(greatest(sum(i.labels - i.whole), 1) / 10000.0) INTO boxes, every FROM pg_temp.millrace_items i;
	-- Without boxes only labels of unknown classes are looked at; those between the first and the last of an image may be, too.
	odd := ARRAY(SELECT i.image_id FROM pg_temp.millrace_items i WHERE boxes = 0 AND (i.labels > 1 OR i.class_id <> ALL (known)));
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY (a.x2 - a.x1)::float8 * (a.y2 - a.y1) / (f.width::float8 * f.height)) INTO median
		FROM @schema@.annotations_in(place.dataset, place.version) a JOIN @schema@.facts f USING (image_id)
		WHERE boxes > 0 AND a.annotation_id % every = 0 AND a.x2 > a.x1 AND a.y2 > a.y1 AND f.width IS NOT NULL;

	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, annotation_id, class_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, i.split, x.image_id, x.annotation_id, x.class_id, e.score,
			jsonb_strip_nulls(CASE WHEN x.x1 IS NOT NULL THEN jsonb_build_object('box', ARRAY[x.x1, x.y1, x.x2, x.y2], 'width', x.width, 'height', x.height) ELSE '{}' END
				|| jsonb_build_object('source', x.source)) || e.evidence, e.suggestion
		FROM (SELECT a.*, f.width, f.height, s.shorter, s.share,
				ARRAY[
					CASE WHEN a.class_id <> ALL (known) THEN 'unknown_class' END,
					CASE WHEN NOT s.sound THEN 'degenerate_box' END,
					CASE WHEN s.sound AND (a.x1 < -t.beyond OR a.y1 < -t.beyond OR a.x2 > f.width + t.beyond OR a.y2 > f.height + t.beyond) THEN 'box_out_of_range' END,
					CASE WHEN s.shorter < t.tiny THEN 'tiny_box' END,
					CASE WHEN s.share > t.huge AND median < t.huge_median THEN 'huge_box' END] AS hits
			FROM @schema@.annotations_in(place.dataset, place.version) a LEFT JOIN @schema@.facts f ON f.image_id = a.image_id AND boxes > 0
				-- NaN is greater than every number; a difference of two numbers that are too large is infinite
				CROSS JOIN LATERAL (SELECT (a.x2 > a.x1 AND a.y2 > a.y1 AND greatest(a.x1, a.y1, a.x2, a.y2) < 'Infinity' AND least(a.x1, a.y1, a.x2, a.y2) > '-Infinity') AS sound) o
				CROSS JOIN LATERAL (SELECT o.sound, CASE WHEN o.sound THEN least(a.x2::float8 - a.x1, a.y2::float8 - a.y1) * least(1, t.image_size / greatest(f.width, f.height)) END AS shorter,
					CASE WHEN o.sound THEN greatest(0, least(a.x2::float8, f.width) - greatest(a.x1::float8, 0)) * greatest(0, least(a.y2::float8, f.height) - greatest(a.y1::float8, 0))
						/ (f.width::float8 * f.height) END AS share) s
			WHERE (a.x1 IS NOT NULL OR a.class_id <> ALL (known)) AND (boxes > 0 OR a.image_id = ANY (odd))) x
			JOIN @schema@.images i ON i.image_id = x.image_id
			CROSS JOIN LATERAL unnest(x.hits) AS h (kind)
			JOIN @schema@.looked_for(run) k ON k.kind = h.kind
			CROSS JOIN LATERAL (SELECT * FROM (VALUES
				('unknown_class', NULL::float8, jsonb_build_object('class_id', x.class_id), 'Add the class to classes, correct the label, or remove it: drop_boxes().'),
				('degenerate_box', NULL, '{}', 'Draw it again, or remove it: drop_boxes().'),
				('box_out_of_range', greatest(-x.x1, -x.y1, x.x2 - x.width, x.y2 - x.height), jsonb_build_object('beyond', greatest(-x.x1, -x.y1, x.x2 - x.width, x.y2 - x.height)),
					'Let it end where the image does: clamp_boxes().'),
				('tiny_box', x.shorter, jsonb_build_object('shorter_side_scaled', x.shorter), 'Too small to be learned at this image size: train with larger images or tiles, or remove it: drop_boxes().'),
				('huge_box', x.share, jsonb_build_object('share', x.share, 'median_share', median), 'Look whether the box is that of the object.'))
				AS v (kind, score, evidence, suggestion) WHERE v.kind = h.kind) e
		WHERE x.hits && kinds;

	-- The later of two is the one that is found; of several that it resembles, the most alike is named.
	IF boxes > 0 THEN
		INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, annotation_id, other_annotation_id, class_id, score, evidence, suggestion)
			SELECT DISTINCT ON (p.b_id, k.kind) run, k.kind, k.severity, i.split, p.image_id, p.b_id, p.a_id, p.b_class, p.iou,
				jsonb_build_object('iou', p.iou, 'classes', jsonb_build_array(p.a_class, p.b_class)),
				CASE k.kind WHEN 'duplicate_box' THEN 'Remove it: drop_boxes().' WHEN 'conflicting_boxes' THEN 'Only one of the two classes can be right: remove the other.'
					ELSE 'Look whether there are two objects.' END
			FROM (SELECT a.image_id, a.annotation_id AS a_id, a.class_id AS a_class, b.annotation_id AS b_id, b.class_id AS b_class,
					n.inter / ((a.x2::float8 - a.x1) * (a.y2::float8 - a.y1) + (b.x2::float8 - b.x1) * (b.y2::float8 - b.y1) - n.inter) AS iou
				FROM @schema@.annotations_in(place.dataset, place.version) a JOIN @schema@.annotations_in(place.dataset, place.version) b ON b.image_id = a.image_id AND b.annotation_id > a.annotation_id
					AND b.x1 < a.x2 AND b.x2 > a.x1 AND b.y1 < a.y2 AND b.y2 > a.y1,
					LATERAL (SELECT (least(a.x2, b.x2)::float8 - greatest(a.x1, b.x1)) * (least(a.y2, b.y2)::float8 - greatest(a.y1, b.y1)) AS inter) n
				WHERE NOT a.crowd AND NOT b.crowd AND a.x2 > a.x1 AND a.y2 > a.y1 AND b.x2 > b.x1 AND b.y2 > b.y1
					AND greatest(a.x2, a.y2, b.x2, b.y2) < 'Infinity' AND least(a.x1, a.y1, b.x1, b.y1) > '-Infinity') p
				JOIN @schema@.looked_for(run) k ON k.kind = CASE
					WHEN p.a_class = p.b_class AND p.iou >= t.duplicate THEN 'duplicate_box'
					WHEN p.a_class = p.b_class AND p.iou >= t.overlapping THEN 'overlapping_boxes'
					WHEN p.a_class <> p.b_class AND p.iou >= t.conflicting THEN 'conflicting_boxes' END
				JOIN @schema@.images i ON i.image_id = p.image_id
			ORDER BY p.b_id, k.kind, p.iou DESC, p.a_id;
	END IF;

	IF place.task = 'classification' THEN
		INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, evidence, suggestion)
			SELECT run, k.kind, k.severity, i.split, i.image_id,
				jsonb_build_object('classes', (SELECT jsonb_agg(DISTINCT o.class_id) FROM @schema@.annotations o WHERE o.image_id = i.image_id AND o.until IS NULL)), 'Keep the class that is right.'
			FROM pg_temp.millrace_items i, @schema@.looked_for(run) k WHERE k.kind = 'conflicting_labels' AND i.whole > 1 AND i.class_id <> i.last_class;
	ELSE
		INSERT INTO @schema@.findings (run_id, kind, severity, split, score, evidence, suggestion)
			SELECT run, k.kind, k.severity, b.split, b.share, jsonb_build_object('background', b.background, 'images', b.images, 'share', b.share),
				'Look at some of the images without objects: are labels missing? If not, leave some out.'
			FROM (SELECT i.split, count(*) AS images, count(*) FILTER (WHERE i.labels = 0) AS background, avg((i.labels = 0)::int)::float8 AS share
				FROM pg_temp.millrace_items i WHERE i.present GROUP BY i.split) b, @schema@.looked_for(run) k
			WHERE k.kind = 'background_share' AND b.share > t.background;
		PERFORM @schema@.note_figures(run, 'boxes', (SELECT jsonb_build_object('boxes', s.boxes, 'small', s.small, 'medium', s.medium, 'large', s.large,
				'share', to_jsonb(s.share), 'aspect', to_jsonb(s.aspect)) FROM @schema@.box_sizes_of(run) s WHERE s.class_id IS NULL));
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.check_annotations(bigint) IS 'the check annotations of an audit';

CREATE OR REPLACE FUNCTION @schema@.box_sizes_of(run bigint)
	RETURNS TABLE (class_id int, boxes bigint, small bigint, medium bigint, large bigint, width real[], height real[], share real[], aspect real[]) LANGUAGE sql STABLE AS $$
	SELECT b.class_id, count(*), count(*) FILTER (WHERE b.w * b.h < 32 * 32), count(*) FILTER (WHERE b.w * b.h BETWEEN 32 * 32 AND 96 * 96), count(*) FILTER (WHERE b.w * b.h > 96 * 96),
		percentile_cont('{0.05,0.25,0.5,0.75,0.95}'::float8[]) WITHIN GROUP (ORDER BY b.w)::real[], percentile_cont('{0.05,0.25,0.5,0.75,0.95}'::float8[]) WITHIN GROUP (ORDER BY b.h)::real[],
		percentile_cont('{0.05,0.25,0.5,0.75,0.95}'::float8[]) WITHIN GROUP (ORDER BY b.w * b.h / b.pixels)::real[],
		percentile_cont('{0.05,0.25,0.5,0.75,0.95}'::float8[]) WITHIN GROUP (ORDER BY b.w / b.h)::real[]
	FROM (SELECT a.class_id, a.x2::float8 - a.x1 AS w, a.y2::float8 - a.y1 AS h, f.width::float8 * f.height AS pixels
		FROM @schema@.run_annotations(run) a LEFT JOIN @schema@.facts f USING (image_id)
		WHERE a.x2 > a.x1 AND a.y2 > a.y1 AND greatest(a.x2, a.y2) < 'Infinity' AND least(a.x1, a.y1) > '-Infinity') b
	GROUP BY GROUPING SETS ((b.class_id), ())
$$;
COMMENT ON FUNCTION @schema@.box_sizes_of(bigint) IS 'box_sizes() of what a run is about';

CREATE OR REPLACE FUNCTION @schema@.box_sizes(reference text)
	RETURNS TABLE (class_id int, boxes bigint, small bigint, medium bigint, large bigint, width real[], height real[], share real[], aspect real[]) LANGUAGE sql STABLE AS $$
	SELECT s.* FROM @schema@.box_sizes_of((SELECT max(x.run_id) FROM @schema@.runs x JOIN @schema@.resolve(reference) r USING (dataset, version) WHERE x.activity = 'audit')) s
$$;
COMMENT ON FUNCTION @schema@.box_sizes(text) IS
	'sizes of boxes of an audited version by class (NULL: all): how many are small (less than 32² pixels), medium, large (more than 96²); percentiles 5, 25, 50, 75, 95 of width, height, share of the image, width / height';

-- ---- placement ----

CREATE TABLE IF NOT EXISTS @schema@.fits (
	image_id bigint PRIMARY KEY REFERENCES @schema@.images ON DELETE CASCADE,
	boxes bigint NOT NULL,
	looked_at int,
	fit real,
	best real,
	move text,
	dx real,
	dy real
);
COMMENT ON TABLE @schema@.fits IS 'how well the boxes of each image fit what is in it: millrace.box_fit()';
COMMENT ON COLUMN @schema@.fits.boxes IS 'digest of the boxes that were looked at: of others it is looked again';

CREATE OR REPLACE FUNCTION @schema@.check_placement(run bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place record;
	low double precision := @schema@.threshold(run, 'misplaced_boxes', 'fit');
	mads double precision := @schema@.threshold(run, 'misplaced_boxes', 'mads');
	elsewhere double precision := @schema@.threshold(run, 'misplaced_boxes', 'elsewhere');
	gain double precision := @schema@.threshold(run, 'misplaced_boxes', 'gain');
	median double precision;
BEGIN
	SELECT r.dataset, r.version INTO place FROM @schema@.runs r WHERE r.run_id = run;
	INSERT INTO @schema@.fits
		SELECT i.image_id, b.digest, f.* FROM
			(SELECT o.image_id, o.boxes, hash_array_extended(o.boxes, 0) AS digest
				FROM (SELECT a.image_id, array_agg(v.v ORDER BY a.annotation_id, v.n) AS boxes
					FROM @schema@.annotations_in(place.dataset, place.version) a, LATERAL (VALUES (1, a.x1), (2, a.y1), (3, a.x2), (4, a.y2)) AS v (n, v)
					WHERE a.x1 IS NOT NULL AND NOT a.crowd GROUP BY a.image_id) o) b
			JOIN @schema@.images i USING (image_id) JOIN @schema@.facts x ON x.image_id = i.image_id AND x.sqlstate IS NULL
			LEFT JOIN @schema@.fits old ON old.image_id = i.image_id
			CROSS JOIN LATERAL millrace.box_fit(i.content, b.boxes) f
		WHERE old.boxes IS DISTINCT FROM b.digest
		ON CONFLICT (image_id) DO UPDATE SET boxes = excluded.boxes, looked_at = excluded.looked_at, fit = excluded.fit, best = excluded.best,
			move = excluded.move, dx = excluded.dx, dy = excluded.dy;
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f.fit) INTO median FROM @schema@.images_in(place.dataset, place.version) i JOIN @schema@.fits f USING (image_id);
	-- Objects in photos have soft edges, and fits differ more: MADs of logarithms, since they are ratios.
	SELECT least(low, exp(-mads * 1.4826 * percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(ln(f.fit / median))))) INTO low
		FROM @schema@.images_in(place.dataset, place.version) i JOIN @schema@.fits f USING (image_id) WHERE f.fit > 0 AND median > 0;
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, i.split, i.image_id, f.fit / nullif(median, 0),
			jsonb_build_object('fit', f.fit, 'median_fit', median, 'best', f.best, 'move', f.move, 'boxes', f.looked_at)
				|| CASE WHEN f.move = 'shifted' THEN jsonb_build_object('dx', round(f.dx), 'dy', round(f.dy)) ELSE '{}' END,
			format('Look whether the image was %s without its boxes, or draw them again.', f.move)
		FROM @schema@.images_in(place.dataset, place.version) i JOIN @schema@.fits f USING (image_id), @schema@.looked_for(run) k
		WHERE k.kind = 'misplaced_boxes' AND f.fit < low * median AND f.best > gain * f.fit AND f.best > elsewhere * median
			AND EXISTS (SELECT FROM @schema@.annotations_in(place.dataset, place.version) a WHERE a.image_id = i.image_id AND a.x1 IS NOT NULL);
END $$;
COMMENT ON FUNCTION @schema@.check_placement(bigint) IS 'the check placement of an audit';

-- ---- classes ----

-- counted: split, class_id, images, objects, as JSON.
CREATE OR REPLACE FUNCTION @schema@.count_table(dataset text, splits text[], counted jsonb)
	RETURNS TABLE (split text, class_id int, class_name text, images bigint, objects bigint, share real, effective real) LANGUAGE sql STABLE AS $$
	WITH counts AS (SELECT * FROM jsonb_to_recordset(counted) AS c (split text, class_id int, images bigint, objects bigint)),
	names AS (
		SELECT c.class_id, c.class_name FROM @schema@.classes c WHERE c.dataset = count_table.dataset
		UNION ALL SELECT DISTINCT n.class_id, NULL FROM counts n
			WHERE NOT EXISTS (SELECT FROM @schema@.classes c WHERE c.dataset = count_table.dataset AND c.class_id = n.class_id))
	SELECT s.split, n.class_id, n.class_name, coalesce(c.images, 0), coalesce(c.objects, 0),
		(coalesce(c.objects, 0) / nullif(sum(c.objects) OVER (PARTITION BY s.split), 0))::real, ((1 - 0.999::float8 ^ coalesce(c.objects, 0)) / 0.001)::real
	FROM unnest(splits) AS s (split) CROSS JOIN names n LEFT JOIN counts c ON c.split = s.split AND c.class_id = n.class_id
	ORDER BY s.split, n.class_id
$$;
COMMENT ON FUNCTION @schema@.count_table(text, text[], jsonb) IS 'class_counts() of counts by split and class: with what is nowhere, names, shares';

CREATE OR REPLACE FUNCTION @schema@.class_counts(reference text, OUT split text, OUT class_id int, OUT class_name text, OUT images bigint, OUT objects bigint, OUT share real, OUT effective real)
	RETURNS SETOF record LANGUAGE sql STABLE AS $$
	SELECT t.* FROM @schema@.resolve(reference) r, LATERAL @schema@.count_table(r.dataset, ARRAY(SELECT DISTINCT i.split FROM @schema@.images_of(reference) i),
		(SELECT jsonb_agg(to_jsonb(c)) FROM (
			SELECT o.split, o.class_id, count(*) AS images, sum(o.objects)::bigint AS objects
			FROM (SELECT min(i.split) AS split, a.class_id, a.image_id, count(*) AS objects
				FROM @schema@.images_of(reference) i JOIN @schema@.annotations a ON a.image_id = i.image_id AND a.since <= r.version AND (a.until IS NULL OR a.until > r.version)
				GROUP BY a.image_id, a.class_id) o
			GROUP BY o.split, o.class_id) c)) t
$$;
COMMENT ON FUNCTION @schema@.class_counts(text) IS
	'images and objects (boxes; labels of whole images) of each class in each split, zeros too; effective: the effective number of samples (1 - b^n) / (1 - b) for b = 0.999 (Cui and others, 2019); a class without name is not in classes';

-- Quantile of the normal distribution, p at least 0.5 (Abramowitz and Stegun 26.2.23, error below 0.00045).
CREATE OR REPLACE FUNCTION @schema@.normal_quantile(p double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) FROM (SELECT sqrt(-2 * ln(1 - p))) AS q (t)
$$;
COMMENT ON FUNCTION @schema@.normal_quantile(double precision) IS 'how many standard deviations from the mean the share p of a normal distribution lies below';

-- counts: rows of class_counts() as JSON.
CREATE OR REPLACE FUNCTION @schema@.split_balance(counts jsonb)
	RETURNS TABLE (split text, objects bigint, classes bigint, ratio double precision, entropy double precision, balance double precision, effective double precision,
		rarest_id int, rarest text, fewest bigint, frequent text, most bigint) LANGUAGE sql IMMUTABLE AS $$
	SELECT c.split, sum(c.objects)::bigint, count(*), max(c.objects)::float8 / min(c.objects), h.entropy, CASE WHEN count(*) > 1 THEN h.entropy / ln(count(*)) ELSE 1 END, exp(h.entropy),
		(array_agg(c.class_id ORDER BY c.objects, c.class_id))[1], (array_agg(c.class_name ORDER BY c.objects, c.class_id))[1], min(c.objects),
		(array_agg(c.class_name ORDER BY c.objects DESC, c.class_id))[1], max(c.objects)
	FROM jsonb_to_recordset(counts) AS c (split text, class_id int, class_name text, objects bigint, share float8),
		LATERAL (SELECT -sum(d.share * ln(d.share)) AS entropy FROM jsonb_to_recordset(counts) AS d (split text, objects bigint, share float8) WHERE d.split = c.split AND d.objects > 0) h
	WHERE c.objects > 0 GROUP BY c.split, h.entropy
$$;
COMMENT ON FUNCTION @schema@.split_balance(jsonb) IS
	'how evenly the objects of each split lie over its classes: most / least, entropy (nats), balance (entropy / ln classes, 1 is even), effective (exp entropy: so many classes of equal size)';

CREATE OR REPLACE FUNCTION @schema@.check_classes(run bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place record;
	counts jsonb;
	most_ratio double precision := @schema@.threshold(run, 'class_imbalance', 'ratio');
	split_width double precision := @schema@.threshold(run, 'small_split', 'half_width');
	split_z double precision := @schema@.normal_quantile((1 + @schema@.threshold(run, 'small_split', 'confidence')) / 2);
	class_width double precision := @schema@.threshold(run, 'small_class', 'half_width');
	class_z double precision := @schema@.normal_quantile((1 + @schema@.threshold(run, 'small_class', 'confidence')) / 2);
BEGIN
	PERFORM @schema@.need_items(run);
	SELECT r.dataset, r.version INTO place FROM @schema@.runs r WHERE r.run_id = run;
	counts := (SELECT jsonb_agg(to_jsonb(t)) FROM @schema@.count_table(place.dataset, ARRAY(SELECT DISTINCT i.split FROM pg_temp.millrace_items i),
		(SELECT jsonb_agg(to_jsonb(c)) FROM (
			SELECT o.split, o.class_id, count(*) AS images, sum(o.objects)::bigint AS objects
			FROM (SELECT i.split, i.class_id, 1::bigint AS objects FROM pg_temp.millrace_items i WHERE i.labels = 1
				UNION ALL
				SELECT min(i.split), a.class_id, count(*) FROM pg_temp.millrace_items i JOIN @schema@.annotations_in(place.dataset, place.version) a USING (image_id)
				WHERE i.labels > 1 GROUP BY a.image_id, a.class_id) o
			GROUP BY o.split, o.class_id) c)) t WHERE t.class_name IS NOT NULL);
	IF counts IS NULL THEN
		RETURN;
	END IF;
	PERFORM @schema@.note_figures(run, 'classes', (
		SELECT jsonb_object_agg(s.split, jsonb_build_object('objects', s.objects, 'classes', s.classes, 'ratio', s.ratio, 'entropy', s.entropy, 'balance', s.balance, 'effective_classes', s.effective))
		FROM @schema@.split_balance(counts) s));

	INSERT INTO @schema@.findings (run_id, kind, severity, split, class_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, s.split, s.rarest_id, s.ratio, jsonb_build_object('rarest', s.rarest, 'objects', s.fewest, 'most_frequent', s.frequent, 'its_objects', s.most,
				'ratio', s.ratio, 'balance', s.balance, 'effective_classes', s.effective),
			'Weight the classes (class_weights()), show rare ones more often (oversampling_plan(), rebalance()), or collect more of them.'
		FROM @schema@.split_balance(counts) s, @schema@.looked_for(run) k WHERE k.kind = 'class_imbalance' AND s.ratio > most_ratio;

	-- Wilson's interval of a share of one half is z / (2 sqrt(n + z²)) wide to each side.
	INSERT INTO @schema@.findings (run_id, kind, severity, split, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, s.split, w.half_width, jsonb_build_object('objects', s.objects, 'half_width', w.half_width, 'needed', ceil(split_z ^ 2 * (1 / (4 * split_width ^ 2) - 1))),
			'Move images into this split, or report intervals with the figures.'
		FROM @schema@.split_balance(counts) s, LATERAL (SELECT split_z / (2 * sqrt(s.objects + split_z ^ 2)) AS half_width) w, @schema@.looked_for(run) k
		WHERE k.kind = 'small_split' AND s.split <> 'train' AND w.half_width > split_width;
	INSERT INTO @schema@.findings (run_id, kind, severity, split, class_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, c.split, c.class_id, w.half_width, jsonb_build_object('objects', c.objects, 'half_width', w.half_width, 'needed', ceil(class_z ^ 2 * (1 / (4 * class_width ^ 2) - 1))),
			'Collect more of this class for this split, or do not rely on its recall.'
		FROM jsonb_to_recordset(counts) AS c (split text, class_id int, objects bigint), LATERAL (SELECT class_z / (2 * sqrt(c.objects + class_z ^ 2)) AS half_width) w, @schema@.looked_for(run) k
		WHERE k.kind = 'small_class' AND c.split <> 'train' AND c.objects > 0 AND w.half_width > class_width;

	INSERT INTO @schema@.findings (run_id, kind, severity, split, class_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, c.split, c.class_id, 0, jsonb_build_object('class', c.class_name, 'objects_elsewhere', c.elsewhere),
			CASE k.kind WHEN 'untrained_class' THEN 'Put images with this class into train, or take the class out of the data set.'
				ELSE 'Put images with this class into this split.' END
		FROM (SELECT c.*, sum(c.objects) OVER (PARTITION BY c.class_id) AS elsewhere, sum(c.objects) OVER (PARTITION BY c.split) AS in_split
			FROM jsonb_to_recordset(counts) AS c (split text, class_id int, class_name text, objects bigint)) c
			JOIN @schema@.looked_for(run) k ON k.kind = CASE WHEN c.split = 'train' AND c.elsewhere > 0 THEN 'untrained_class' ELSE 'missing_class' END
		-- a split without any label is one that is not labelled, and a class without any object is missing once
		WHERE c.objects = 0 AND c.in_split > 0 AND c.elsewhere > 0;
	INSERT INTO @schema@.findings (run_id, kind, severity, class_id, score, evidence, suggestion)
		SELECT run, k.kind, k.severity, c.class_id, 0, jsonb_build_object('class', c.class_name), 'Label objects of this class, or delete it from classes.'
		FROM (SELECT c.class_id, c.class_name, sum(c.objects) AS n FROM jsonb_to_recordset(counts) AS c (class_id int, class_name text, objects bigint) GROUP BY 1, 2) c, @schema@.looked_for(run) k
		WHERE k.kind = 'missing_class' AND c.n = 0;
END $$;
COMMENT ON FUNCTION @schema@.check_classes(bigint) IS 'the check classes of an audit';

CREATE OR REPLACE FUNCTION @schema@.class_weights(reference text, scheme text DEFAULT 'balanced', split text DEFAULT 'train', beta double precision DEFAULT 0.999)
	RETURNS TABLE (class_id int, class_name text, objects bigint, weight double precision) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF scheme IS NULL OR scheme NOT IN ('balanced', 'inverse', 'effective') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown scheme of class weights: %s', scheme), HINT = 'Schemes are balanced, inverse and effective.';
	END IF;
	IF beta IS NULL OR beta <= 0 OR beta >= 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'beta must be greater than 0 and less than 1';
	END IF;
	RETURN QUERY
		SELECT c.class_id, c.class_name, c.objects, CASE scheme
				WHEN 'balanced' THEN sum(c.objects) OVER () / (count(*) OVER () * c.objects::float8)
				ELSE w.raw * count(*) OVER () / sum(w.raw) OVER () END
		FROM @schema@.class_counts(reference) c, LATERAL (SELECT CASE scheme WHEN 'effective' THEN (1 - beta) / (1 - beta ^ c.objects) ELSE 1.0::float8 / c.objects END AS raw) w
		WHERE c.split = class_weights.split AND c.objects > 0 AND c.class_name IS NOT NULL
		ORDER BY c.class_id;
END $$;
COMMENT ON FUNCTION @schema@.class_weights(text, text, text, double precision) IS
	'weights of the classes that a split has: balanced (n / (classes * n of class), as scikit-learn has it); inverse (1 / n) and effective ((1 - b) / (1 - b^n), Cui and others, 2019), both with mean 1';

CREATE OR REPLACE FUNCTION @schema@.oversampling_plan(reference text, threshold double precision DEFAULT NULL, split text DEFAULT 'train', seed int DEFAULT 0)
	RETURNS TABLE (image_id bigint, path text, class_id int, repeats double precision, copies int) LANGUAGE sql STABLE AS $$
	WITH pictures AS (SELECT i.image_id, i.path FROM @schema@.images_of(reference) i WHERE i.split = oversampling_plan.split AND i.content IS NOT NULL),
		has AS (SELECT DISTINCT a.image_id, a.class_id FROM @schema@.annotations_of(reference) a JOIN pictures USING (image_id)),
		frequency AS (SELECT h.class_id, count(*)::float8 / (SELECT count(*) FROM pictures) AS f FROM has h GROUP BY h.class_id),
		factor AS (SELECT q.class_id, greatest(1, sqrt(coalesce(oversampling_plan.threshold, (SELECT avg(f) FROM frequency)) / q.f)) AS r FROM frequency q)
	SELECT p.image_id, p.path, x.class_id, coalesce(x.r, 1),
		-- rounded up or down as often as the fraction says, the same for the same seed
		(floor(coalesce(x.r, 1)) + (('x' || left(md5(oversampling_plan.seed || ':' || p.image_id), 8))::bit(32)::bigint / 4294967296.0 < coalesce(x.r, 1) - floor(coalesce(x.r, 1)))::int)::int
	FROM pictures p LEFT JOIN (SELECT DISTINCT ON (h.image_id) h.image_id, h.class_id, f.r FROM has h JOIN factor f USING (class_id) ORDER BY h.image_id, f.r DESC, h.class_id) x USING (image_id)
	ORDER BY p.image_id
$$;
COMMENT ON FUNCTION @schema@.oversampling_plan(text, double precision, text, int) IS
	'how often an epoch should show each image: max over its classes of sqrt(threshold / share of images with the class), at least 1 (repeat factor sampling, Gupta and others, 2019); threshold NULL: the mean share; class_id decided; copies: repeats rounded at random';
