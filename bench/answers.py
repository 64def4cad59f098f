"""Pipeline answers: what ask() takes in SQL, by what it finds, and an import of history.

    bench/answers.py [--records 10000] [--questions 300] [--rounds 3]

Questions and answers are MedQuAD's, the encoder is MiniLM.  Times are the server's, of ask() as a whole within one transaction: what its commit
takes is the disk's.  Beside each, as the peer, what the bare cache_get() of the same question takes.
"""
import argparse
import gzip
import json
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib import minilm, tap
from lib.stream import cluster, literal

MEASURE = """DO $$ DECLARE
	t timestamptz; ms float8[] := '{}'; found text[] := '{}'; q text; r record;
BEGIN
	FOR q IN SELECT %(question)s FROM asked ORDER BY n LOOP
		t := clock_timestamp();
		SELECT * INTO r FROM %(call)s;
		ms := ms || 1000 * extract(epoch FROM clock_timestamp() - t)::float8;
		found := found || COALESCE(r.%(source)s, 'none');
	END LOOP;
	CREATE TEMP TABLE IF NOT EXISTS measured (what text, found text, ms float8);
	INSERT INTO measured SELECT %(what)s, * FROM unnest(found, ms);
END $$;"""
ASK = {'call': 'answers.ask(q)', 'source': 'source'}
GET = {'call': "millrace.cache_get('answers', q, '', answers.cache_model((SELECT s FROM answers.settings s)), answers.cache_prompt((SELECT s FROM answers.settings s)))",
       'source': 'hit'}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--records', type=int, default=10000)
    parser.add_argument('--questions', type=int, default=300)
    parser.add_argument('--rounds', type=int, default=3)
    a = parser.parse_args()
    path = tap.data('qa/medquad_12000.tsv.gz')
    with gzip.open(path, 'rt', encoding='utf-8') as f:
        rows = [line.rstrip('\n').split('\t') for line in f][1:a.records + 1]
    with cluster('bench_answers', {'max_worker_processes': 24}) as c:
        c.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user; GRANT CREATE, TEMP ON DATABASE postgres TO mill; "
               "CREATE SERVER here FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'answers.local_answer'); GRANT USAGE ON FOREIGN SERVER here TO mill")
        minilm.install(c)
        c.psql("SELECT millrace.create_pipeline('answers', options => '{\"provider\": \"here\"}')", user='mill')
        records = literal(json.dumps([{'question': r[2], 'answer': r[3]} for r in rows]))
        for again in ('', ', there already'):
            t = time.monotonic()
            n = c.psql(f"SELECT answers.import_history({records}::jsonb)", user='mill', timeout=1200)[0][0]
            print('import of %d records%s: %.1f s (%s new)' % (len(rows), again, time.monotonic() - t, n), flush=True)
        steps = [MEASURE % {'question': 'question', 'what': "'first ask()'", **ASK}]
        for i in range(a.rounds):
            steps += [MEASURE % {'question': 'question', 'what': "'equal: ask()'", **ASK}, MEASURE % {'question': 'question', 'what': "'equal: cache_get()'", **GET},
                      MEASURE % {'question': f'answers.paraphrase(question, {i})', 'what': "'reworded: ask()'", **ASK},
                      MEASURE % {'question': f'answers.paraphrase(question, {i})', 'what': "'reworded: cache_get()'", **GET}]
        out = c.psql(f"""CREATE TEMP TABLE asked AS SELECT question, row_number() OVER (ORDER BY history_id) AS n FROM
            (SELECT DISTINCT ON (question_key) question, history_id FROM answers.history ORDER BY question_key, history_id) h ORDER BY md5(question) LIMIT {a.questions};
            {' '.join(steps)}
            SELECT what, found, count(*), round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 3), round(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)::numeric, 3)
            FROM measured GROUP BY 1, 2 ORDER BY 1, 2""", user='mill', timeout=1200)
        for row in out:
            print('%-22s %-9s %5s questions: p50 %s ms, p95 %s ms' % row)


if __name__ == '__main__':
    main()
