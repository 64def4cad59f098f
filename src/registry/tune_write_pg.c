/*
 * tune_write_pg.c
 *	  A tuning and its trials as rows: all at its end, in the caller's
 *	  transaction.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "registry/tune.h"
#include "registry/write.h"
#include "utils/array.h"
#include "utils/builtins.h"

int64
tune_next_id(void)
{
	reg_write	w;
	int64		id;
	bool		isnull;

	reg_write_begin(&w, "tune_model()");
	reg_execute("SELECT pg_catalog.nextval('millrace.tunings_id_seq')", 0, NULL, NULL, NULL, SPI_OK_SELECT);
	id = DatumGetInt64(reg_result(0, 1, &isnull));
	reg_write_end(&w);
	return id;
}

static void
write_trial(const tuning *t, int64 id, int i)
{
	static const Oid types[] = {INT8OID, INT4OID, JSONBOID, INT8OID, TEXTOID, INT4OID, FLOAT8OID, FLOAT8ARRAYOID,
	FLOAT8OID, FLOAT8OID, FLOAT8OID, TEXTOID};
	const tune_trial *tr = &t->trials[i];
	Datum		values[lengthof(types)];
	char		nulls[] = "            ";
	Datum	   *score = palloc(t->folds * sizeof(Datum));

	for (int f = 0; f < t->folds; f++)
		score[f] = Float8GetDatum(tr->scores ? tr->scores[f] : 0);
	values[0] = Int64GetDatum(id);
	values[1] = Int32GetDatum(i + 1);
	values[2] = JsonbPGetDatum(tr->parameters);
	values[3] = Int64GetDatum((int64) t->o.params.random_state);
	values[4] = CStringGetTextDatum(tr->state);
	values[5] = Int32GetDatum(tr->rung);
	values[6] = Float8GetDatum(tr->resource);
	nulls[6] = isnan(tr->resource) ? 'n' : ' ';
	values[7] = PointerGetDatum(construct_array(score, (int) t->folds, FLOAT8OID, sizeof(float8), true, TYPALIGN_DOUBLE));
	values[8] = Float8GetDatum(tr->mean);
	values[9] = Float8GetDatum(tr->sd);
	nulls[7] = nulls[8] = nulls[9] = tr->scores ? ' ' : 'n';
	values[10] = Float8GetDatum(tr->seconds);
	values[11] = tr->error ? CStringGetTextDatum(tr->error) : (Datum) 0;
	nulls[11] = tr->error ? ' ' : 'n';
	reg_execute("INSERT INTO millrace.trials (tuning, trial, parameters, seed, state, rung, resource, scores, mean, sd, seconds, error) "
				"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
				lengthof(types), types, values, nulls, SPI_OK_INSERT);
}

void
tune_write(const tuning *t, int64 id, int version, int best, const char *snapshot)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID, TEXTOID,
	INT8OID, INT8OID, INT4OID, INT4OID, INT4OID, INT4OID, FLOAT8OID, INT4OID, TEXTOID, FLOAT8OID, TEXTOID};
	Datum		values[lengthof(types)];
	reg_write	w;
	int			failed = 0;

	for (int i = 0; i < t->n_trials; i++)
		failed += t->trials[i].error != NULL;
	reg_write_begin(&w, "tune_model()");
	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(t->name);
	values[2] = Int32GetDatum(version);
	values[3] = CStringGetTextDatum(lrn_algorithm_name(t->o.params.algorithm));
	values[4] = CStringGetTextDatum(t->query);
	values[5] = CStringGetTextDatum(t->target);
	values[6] = JsonbPGetDatum(t->space);
	values[7] = JsonbPGetDatum(t->options);
	values[8] = CStringGetTextDatum(tune_search_names[t->search]);
	values[9] = CStringGetTextDatum(lrn_score_name(t->metric));
	values[10] = Int64GetDatum(t->seed);
	values[11] = Int64GetDatum(t->data->matrix.rows);
	values[12] = Int32GetDatum((int32) t->folds);
	values[13] = Int32GetDatum((int32) t->n_trials);
	values[14] = Int32GetDatum(failed);
	values[15] = Int32GetDatum(best + 1);
	values[16] = Float8GetDatum(t->trials[best].mean);
	values[17] = Int32GetDatum(t->workers_launched);
	values[18] = CStringGetTextDatum(snapshot);
	values[19] = Float8GetDatum(train_seconds_since(t->start));
	values[20] = CStringGetTextDatum(w.caller);
	reg_execute("INSERT INTO millrace.tunings (id, name, version, algorithm, query, target, space, options, search, metric, seed, "
				"rows, folds, trials, failed, best_trial, best_score, workers, snapshot, seconds, tuned_by) OVERRIDING SYSTEM VALUE "
				"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
				lengthof(types), types, values, NULL, SPI_OK_INSERT);
	for (int i = 0; i < t->n_trials; i++)
		write_trial(t, id, i);
	reg_write_end(&w);
	if (failed)
		ereport(WARNING,
				(errmsg("%d of " INT64_FORMAT " trials failed", failed, t->n_trials),
				 errhint("SELECT * FROM millrace.trials WHERE tuning = " INT64_FORMAT " AND state = 'failed' says why.", id)));
}
