#!/usr/bin/env python3
"""The malformed images of the shared data, and real photos, through SQL.

Each file gives pixels or an ERROR with SQLSTATE 22023; none takes over 2 s, the
backend stays the same process and below 512 MB, the server's log has no crash.
"""
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster, REPO, install, relocate
from lib.tap import data, done, note, ok, skip_all

archives = [data("malformed/fuzz_corpus_half.tar.gz"), data("malformed/pillow_half.tar.gz")]
if None in archives:
    skip_all("no malformed images here")

TRY = """
CREATE FUNCTION try(file text, OUT code text, OUT message text, OUT seconds real) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
	image bytea := pg_read_binary_file(file);
BEGIN
	code := '00000';
	PERFORM millrace.image_facts(image);		-- raises never
	BEGIN
		PERFORM image_info(image);
		PERFORM image_resize(image, 224, 224, 'cover');
		PERFORM image_resize(image, 1000, 1000, 'contain', 'png');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	END;
	seconds := extract(epoch FROM clock_timestamp() - began);
END $$;
CREATE TABLE files (file text);
CREATE TABLE results AS SELECT file, t.* FROM files, try(file) t WHERE false;
"""


def status(pid, key):
    """A line of /proc/PID/status in kB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])


# the server's user must be able to read the files
folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace_images_"))
try:
    for archive in archives:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder)
    photos = folder / "photos"
    photos.mkdir()
    for photo in pathlib.Path(data("photos")).glob("*.jpg"):
        shutil.copyfile(photo, photos / photo.name)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    files = sorted(str(p) for p in folder.rglob("*") if p.is_file())

    pg = relocate(os.environ.get("MILLRACE_TEST_PG") or REPO / "tmp" / "pg")
    if not os.environ.get("MILLRACE_TEST_INSTALLED"):
        install(pg)
    with Cluster(pg, REPO / "tmp" / "image_malformed") as c:
        c.psql("CREATE EXTENSION millrace")
        c.psql(TRY)
        session = c.session()
        pid = session.pid()
        before = status(pid, "VmHWM")
        for i in range(0, len(files), 100):
            names = ", ".join("('%s')" % f.replace("'", "''") for f in files[i:i + 100])
            session.run(f"TRUNCATE files; INSERT INTO files VALUES {names}; "
                        "INSERT INTO results SELECT file, t.* FROM files, try(file) t", timeout=300)
        after = status(pid, "VmHWM")
        ok(session.pid() == pid, "the same backend looked at all %d files" % len(files))
        rows = c.psql("SELECT code, count(*) FROM results GROUP BY 1 ORDER BY 1")
        note(rows)
        ok({r[0] for r in rows} == {"00000", "22023"}, "pixels or SQLSTATE 22023")
        ok(sum(int(r[1]) for r in rows) == len(files) > 800, "%d files" % len(files))
        ok(c.psql("SELECT count(*) FROM results WHERE code <> '00000' AND coalesce(message, '') = ''") == [("0",)],
           "every refusal says why")
        ok(c.psql("SELECT count(*) FROM results WHERE code <> '00000' AND file LIKE '%/photos/%'") == [("0",)],
           "all photos are good")
        slowest = float(c.psql("SELECT max(seconds) FROM results")[0][0])
        ok(slowest < 2, "slowest file: %.3f s" % slowest)
        ok(after < 512 * 1024, "peak memory of the backend: %d MB (%d MB before)" % (after // 1024, before // 1024))
        session.close()
finally:
    shutil.rmtree(folder, ignore_errors=True)
done()
