"""Mistakes that were made in other systems, made here on purpose: the suite must notice each.

    python t/mutants.py [number …]      # make mutants: build each, run the part that must fail; exit 1 if one survives

A recipe replaces pieces of source in a copy of the tree, below tmp/mutants; the product knows nothing of it.  Each mutant is a
workers' library of its own (with failpoints), which the test that must fail runs instead of ours.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent
WORK = REPO / 'tmp' / 'mutants'
STREAM = 'src/stream/worker/'

FENCE = """	for (int i = 0; i < n_partitions && ours; i++)
	{
		kfk_partition *p = &partitions[i];

		if (p->new_offset != p->next_offset || p->redriven)
			ours = kfk_fence(source, p, p->last >= 0 ? &items[p->last] : NULL);
	}
"""

# name, [file, (text, replacement), … , file, …], program and the part that must fail
MUTANTS = [
    ('offsets in a transaction after the rows',
     [STREAM + 'batch_pg.c', (FENCE, ''),
      ('	MR_FAILPOINT("source.after_commit");\n',
       '	MR_FAILPOINT("source.after_commit");\n	mr_begin("move on");\n	mr_spi_begin(&save);\n' + FENCE + '	mr_spi_end(&save);\n	mr_commit();\n')],
     'test_stream_points.py', 'places'),
    ('offsets in a transaction before the rows',
     [STREAM + 'batch_pg.c', (FENCE, FENCE + """	if (ours)
	{
		mr_spi_end(&save);
		MemoryContextSwitchTo(caller);
		mr_commit();
		mr_begin("rows");
		MemoryContextSwitchTo(TopTransactionContext);
		target = kfk_target_prepare(source);
		mr_spi_begin(&save);
	}
""")], 'test_stream_points.py', 'places'),
    ('no epoch check',
     [STREAM + 'claim_pg.c', ('"AND epoch OPERATOR(pg_catalog.=) $3 AND next_offset OPERATOR(pg_catalog.=) $4 RETURNING', '"AND $3 IS NOT NULL AND next_offset OPERATOR(pg_catalog.=) $4 RETURNING')], 'test_stream_points.py', 'paused'),
    ('read_uncommitted',
     [STREAM + 'kafka.c', ('{"isolation.level", "read_committed"}', '{"isolation.level", "read_uncommitted"}')], 'test_stream_points.py', 'aborted'),
    ('progress read before init_transactions',
     [STREAM + 'outbox_main_pg.c', ('	while ((sent = kfk_producer_init(', """	if (!kfk_producer_make_compacted(producer, outbox->progress_topic, ASK_MS, error, sizeof(error)) ||
		!kfk_read_progress(outbox, &settings, &mark, error, sizeof(error)))
	{
		give_up(outbox, KFK_SENT_NO, error);
		return;
	}
	MR_FAILPOINT("outbox.after_progress");
	while ((sent = kfk_producer_init("""),
      ("""	else if (!kfk_producer_make_compacted(producer, outbox->progress_topic, ASK_MS, error, sizeof(error)) ||
			 !kfk_read_progress(outbox, &settings, &mark, error, sizeof(error)))
		give_up(outbox, KFK_SENT_NO, psprintf("progress topic \\"%s\\": %s", outbox->progress_topic, error));
""", ''),
      ('		MR_FAILPOINT("outbox.after_progress");\n		settle', '		settle')], 'test_stream_points.py', 'failover'),
    ('transactional.id with the pid',
     [STREAM + 'outbox_main_pg.c', ('kfk_producer_open(&settings, outbox->id,', 'kfk_producer_open(&settings, psprintf("%s-%d", outbox->id, MyProcPid),')],
     'test_stream_points.py', 'failover'),
    ('outbox reads id > last',
     [STREAM + 'outbox_claim_pg.c', ('max(id) FROM (" BEYOND("$2::pg_snapshot") ") m"',
       'max(id) FROM millrace.outbox WHERE server = $1 AND $2 <> \'\' AND id > (SELECT coalesce(last_id, 0) FROM millrace.outbox_progress WHERE server = $1)"'),
      ('AND NOT pg_visible_in_snapshot(m.xid, $5::pg_snapshot)', 'AND $5 <> \'\'')], 'test_stream_points.py', 'late'),
    ('claims not flushed under synchronous_commit = off',
     [STREAM + 'outbox_main_pg.c', ('	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)\n', '	if (false)\n')], 'test_stream_points.py', 'unflushed'),
    ('lease token not checked',
     ['src/task/worker/deliver_pg.c', ('WHERE id = ANY ($1) AND epoch = $2 RETURNING id', 'WHERE id = ANY ($1) AND $2 > 0 RETURNING id'),
      'src/task/worker/queue_pg.c', ('"WHERE %s queue = $1 AND epoch = $2 RETURNING ctid"', '"WHERE %s queue = $1 AND $2 > 0 RETURNING ctid"')], 'test_stream_points.py', 'token'),
    ('lease not renewed',
     [STREAM + 'lease_pg.c', ('(s->said || s->leased ? kfk_at_most_since(s->said_at) >= source->lease_ms / 3 : true))', '!(s->said || s->leased))')], 'test_stream_share.py', 'protocol'),
    ('messages before next_offset are not dropped',
     [STREAM + 'take_pg.c', ('keep = m->offset >= p->taken;', 'keep = true;')], 'test_stream_points.py', 'restarts'),
    ('a full disk makes dead letters',
     ['src/core/process_pg.c', ("MAKE_SQLSTATE('5', '3', '0', '0', '0'), ", '')], 'test_stream_points.py', 'full'),
    ('a secret file may be a link',
     ['src/task/worker/secret_pg.c', ('O_RDONLY | O_NOFOLLOW | O_NONBLOCK', 'O_RDONLY | O_NONBLOCK')], 'test_task_secrets.py', 'bad_files'),
    ('what a server repeats of a key is kept',
     ['src/task/worker/dialect_error.c', ("		memset(p, '*', n);", '		p += n;')], 'test_task_secrets.py', 'by_file'),
    ('a stream without its end is an answer',
     ['src/task/worker/dialect_read.c', ('	if (!r->ended)\n', '	if (false)\n')], 'test_providers.py', 'faults'),
    ('a provider that refused a key is called until that is written down',
     ['src/task/worker/call_main_pg.c', ('refused |= is_refusal(', 'refused |= false && is_refusal(')], 'test_providers.py', 'auth'),
    ('Retry-After holds back one task alone',
     ['src/task/worker/call_judge_pg.c', ('if (errand->admitted && task->retry_after_us > 0', 'if (false && task->retry_after_us > 0')], 'test_providers.py', 'retry_after'),
    ('a Retry-After in milliseconds is passed over',
     ['src/task/worker/transfer_one.c', ('"retry-after-ms:"', '"retry-before-ms:"')], 'test_providers.py', 'retry_after'),
    ('calls of cancelled tasks go on',
     ['src/task/worker/call_main_pg.c', ('if (task->cancelled || task->lease == 0', 'if (task->lease == 0')], 'test_providers.py', 'endings'),
    ('tasks stay with a provider that is down',
     ['src/task/worker/call_claim_pg.c', ('	if (!candidate->more)\n', '	if (true)\n')], 'test_providers.py', 'chains'),
    ('limits begin anew with the server',
     ['src/task/worker/learn_pg.c', ('tsk_limits_restore(provider, past, n, hold);', 'tsk_limits_restore(provider, past, 0, hold);')], 'test_task_faults.py', None),
]


def mutate(tree, recipe):
    """{file: text} of a recipe applied to a tree."""
    texts = {}
    for step in recipe:
        if isinstance(step, str):
            file = step
            texts[file] = (tree / file).read_text()
            continue
        old, new = step
        if texts[file].count(old) != 1:
            raise ValueError('%s: a piece occurs %d times, not once: %s' % (file, texts[file].count(old), old))
        texts[file] = texts[file].replace(old, new)
    return texts


def misfits():
    """Names of mutants whose recipes do not fit the sources, with the reason."""
    out = []
    for name, recipe, *_ in MUTANTS:
        try:
            mutate(REPO, recipe)
        except (ValueError, OSError) as e:
            out.append('%s: %s' % (name, e))
    return out


def make(tree, target='build/faults/millrace_worker.so'):
    command = ['make', '-s', '-C', str(tree), target]
    if os.environ.get('MILLRACE_BIN'):
        command.append('PG_CONFIG=%s/pg_config' % os.environ['MILLRACE_BIN'])
    subprocess.run(command, check=True)


def copy_tree():
    """The sources, and what of them is built: a mutant compiles one file."""
    tree = WORK / 'tree'
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    make(REPO)
    for name in ('src', 'mk', 'Makefile', 'millrace.control', 't/failpoint', 'build/faults'):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(['cp', '-a', str(REPO / name), str(tree / name)], check=True)
    return tree


def main():
    if misfits():
        sys.exit('\n'.join(misfits()))
    wanted = [int(a) for a in sys.argv[1:]] or range(len(MUTANTS) + 1)
    tree = copy_tree()
    table = []
    for n in wanted:
        name, recipe, program, part = MUTANTS[n - 1] if n else ('none', [], 'test_stream_points.py', None)
        library = WORK / ('%02d' % n) / 'millrace_worker.so'
        library.parent.mkdir(exist_ok=True)
        mutated = mutate(tree, recipe)
        originals = {file: (tree / file).read_text() for file in mutated}
        for file, text in mutated.items():
            (tree / file).write_text(text)
        make(tree)
        shutil.copy(tree / 'build/faults/millrace_worker.so', library)
        for file, text in originals.items():
            (tree / file).write_text(text)
        t = time.monotonic()
        done = subprocess.run([sys.executable, str(HERE / program)] + ([part] if part else []), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=600, env={**os.environ, 'MILLRACE_WORKER_LIBRARY': str(library), 'MILLRACE_TMP': str(WORK / ('%02d' % n))})
        (WORK / ('%02d' % n) / 'log').write_text(done.stdout)
        failed = re.findall(r'^not ok \d+ - (.*)', done.stdout, re.M) or re.findall(r'^AssertionError: (.*)', done.stdout, re.M)
        good = bool(failed) if n else done.returncode == 0
        table.append((n, good))
        print('%2d  %-52s %-8s %s  (%.0f s)' % (n, name, 'CAUGHT' if failed and n else 'passes' if good else 'SURVIVED' if n else 'FAILS',
                                              '; '.join(failed)[:150], time.monotonic() - t), flush=True)
    shutil.rmtree(tree)
    print('%d of %d mutants caught' % (sum(g for n, g in table if n), sum(1 for n, _ in table if n)))
    sys.exit(0 if all(g for _, g in table) else 1)


if __name__ == '__main__':
    main()
