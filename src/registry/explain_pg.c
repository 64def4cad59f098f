/*
 * explain_pg.c
 *	  What the engine will do: the plan of a model, the operators it knows;
 *	  and doing the expensive part beforehand.
 */
#include "postgres.h"

#include <unistd.h>

#include "common/pg_prng.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "registry/run.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_model_plan);
PG_FUNCTION_INFO_V1(millrace_operators);
PG_FUNCTION_INFO_V1(millrace_prewarm);

#define ROUNDS 7				/* of which the least time of a step counts */

static const reg_model *
network_argument(FunctionCallInfo fcinfo)
{
	const reg_model *m = reg_resolve_arg(fcinfo, 0, REG_DESCRIBE);

	if (m->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) has no plan", m->reference, reg_kind_name(m->kind)),
				 errdetail("Only networks (kind \"onnx\") are planned.")));
	reg_load(m);
	return m;
}

/* Bytes of a port's tensor of one image. */
static size_t
tensor_bytes(const nn_tensor_info *t)
{
	return (size_t) t->elements * nn_dtype_size(t->dtype);
}

/* Least milliseconds of each step over some runs with noise as input. */
static double *
measure(const reg_model *m)
{
	const nn_model *nn = &m->loaded->nn;
	int			n = nn_n_steps(nn);
	double	   *least = palloc0(sizeof(double) * (n + 1));
	double	   *ms = palloc0(sizeof(double) * (n + 1));
	const void *inputs[NN_MAX_PORTS];
	void	   *outputs[NN_MAX_PORTS];
	mr_env		env = mr_pg_env(NULL);
	mr_status	st;
	pg_prng_state noise;

	pg_prng_seed(&noise, 1);
	for (int i = 0; i < nn_n_inputs(nn); i++)
	{
		const nn_tensor_info *t = nn_input(nn, i);
		float	   *values = palloc_extended(tensor_bytes(t) + 64, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

		if (t->dtype == nn_float32)
			for (int64 k = 0; k < t->elements; k++)
				values[k] = (float) pg_prng_double(&noise);
		inputs[i] = values;
	}
	for (int i = 0; i < nn_n_outputs(nn); i++)
		outputs[i] = palloc_extended(tensor_bytes(nn_output(nn, i)) + 64, MCXT_ALLOC_HUGE);
	for (int round = 0; round < ROUNDS; round++)
	{
		memset(ms, 0, sizeof(double) * n);
		if (nn_run_timed(nn, &env, reg_scratch(nn_workspace(nn)), 1, inputs, outputs, ms, &st) != MR_OK)
			mr_pg_raise(&st);
		for (int i = 0; i < n; i++)
			least[i] = round == 0 ? ms[i] : Min(least[i], ms[i]);
	}
	return least;
}

/* millrace.model_plan(model text, "analyze" boolean) -> setof record */
Datum
millrace_model_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		analyze = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	const reg_model *m;
	double	   *ms;

	InitMaterializedSRF(fcinfo, 0);
	m = network_argument(fcinfo);
	ms = analyze ? measure(m) : NULL;
	for (int i = 0; i < nn_n_steps(&m->loaded->nn); i++)
	{
		nn_step_info s;
		StringInfoData shape;
		Datum		values[11];
		bool		nulls[11] = {false};

		nn_describe_step(&m->loaded->nn, i, &s);
		initStringInfo(&shape);
		for (int d = 0; d < s.rank; d++)
			appendStringInfo(&shape, "%s" INT64_FORMAT, d ? "x" : "", (int64) s.dims[d]);
		values[0] = Int32GetDatum(i + 1);
		values[1] = CStringGetTextDatum(s.label);
		values[2] = CStringGetTextDatum(s.kernel);
		values[3] = CStringGetTextDatum(s.detail);
		values[4] = CStringGetTextDatum(shape.data);
		values[5] = CStringGetTextDatum(psprintf("%s %s", s.dtype, s.layout));
		values[6] = Int64GetDatum(s.weight_bytes);
		values[7] = Int64GetDatum(s.data_bytes);
		values[8] = Int64GetDatum(s.flops);
		values[9] = Float8GetDatum(ms ? ms[i] : 0);
		values[10] = Float8GetDatum(ms && ms[i] > 0 ? 1e-6 * (double) s.flops / ms[i] : 0);
		nulls[9] = nulls[10] = !analyze;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.operators() -> setof record */
Datum
millrace_operators(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < nn_n_operators(); i++)
	{
		nn_operator_info op;
		Datum		values[5];
		bool		nulls[5] = {false};

		if (!nn_describe_operator(i, &op))
			continue;
		values[0] = CStringGetTextDatum(op.domain[0] ? op.domain : "ai.onnx");
		values[1] = CStringGetTextDatum(op.name);
		values[2] = Int32GetDatum(op.since);
		values[3] = Int32GetDatum(op.until);
		values[4] = CStringGetTextDatum(op.kernel);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.prewarm(model text) -> bytes of the compiled file */
Datum
millrace_prewarm(PG_FUNCTION_ARGS)
{
	const reg_model *m = reg_resolve_arg(fcinfo, 0, REG_ANY);
	long		page = sysconf(_SC_PAGESIZE);

	reg_load(m);
	for (size_t at = 0; at < m->loaded->file_bytes; at += page)
	{
		if (at % ((size_t) page * 1024) == 0)
			CHECK_FOR_INTERRUPTS();
		(void) *(volatile const uint8 *) &m->loaded->file[at];
	}
	if (m->loaded->backbone)
		reg_load(m->loaded->backbone);
	PG_RETURN_INT64((int64) m->loaded->file_bytes);
}
