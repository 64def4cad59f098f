/*
 * similarity_avg_pg.c
 *	  millrace.vector_avg(real[]): the mean of vectors.
 *
 * The state is a double precision[]: the number of vectors, then the sums of their elements; {0} before
 * the first.  It is changed in place where an aggregate calls.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "text/similarity_pg.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(millrace_vector_avg_accum);
PG_FUNCTION_INFO_V1(millrace_vector_avg_combine);
PG_FUNCTION_INFO_V1(millrace_vector_avg_final);

static ArrayType *
new_array(Oid element, int size, int n)
{
	Size		bytes = ARR_OVERHEAD_NONULLS(1) + (Size) size * n;
	ArrayType  *a = palloc0(bytes);

	SET_VARSIZE(a, bytes);
	a->ndim = 1;
	a->elemtype = element;
	ARR_DIMS(a)[0] = n;
	ARR_LBOUND(a)[0] = 1;
	return a;
}

/* Elements of a state; these functions can be called by hand, too. */
static double *
state_of(ArrayType *a, int *n)
{
	double	   *state = (double *) ARR_DATA_PTR(a);

	if (ARR_NDIM(a) != 1 || ARR_HASNULL(a) || ARR_ELEMTYPE(a) != FLOAT8OID || ARR_DIMS(a)[0] < 1 || !(state[0] >= 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expected the state of millrace.vector_avg()")));
	*n = ARR_DIMS(a)[0] - 1;
	return state;
}

/* The state to add vectors of n elements to: the argument itself where it may be changed. */
static ArrayType *
writable(FunctionCallInfo fcinfo, int n, double **state)
{
	bool		own = AggCheckCallContext(fcinfo, NULL);
	ArrayType  *a = own ? PG_GETARG_ARRAYTYPE_P(0) : PG_GETARG_ARRAYTYPE_P_COPY(0);
	int			of;

	*state = state_of(a, &of);
	if ((*state)[0] == 0 && of != n)
	{
		a = new_array(FLOAT8OID, sizeof(double), n + 1);
		*state = (double *) ARR_DATA_PTR(a);
	}
	else if (of != n)
		sim_different(of, n);
	return a;
}

Datum
millrace_vector_avg_accum(PG_FUNCTION_ARGS)
{
	int			n;
	const float *vector = sim_array(PG_GETARG_ARRAYTYPE_P(1), &n);
	double	   *state;
	ArrayType  *a = writable(fcinfo, n, &state);

	if (!isfinite(sim_dot(vector, vector, n)))
		sim_check_finite(vector, n);
	state[0]++;
	for (int i = 0; i < n; i++)
		state[i + 1] += (double) vector[i];
	PG_RETURN_ARRAYTYPE_P(a);
}

Datum
millrace_vector_avg_combine(PG_FUNCTION_ARGS)
{
	int			n;
	const double *other = state_of(PG_GETARG_ARRAYTYPE_P(1), &n);
	double	   *state;
	ArrayType  *a;

	if (other[0] == 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	a = writable(fcinfo, n, &state);
	for (int i = 0; i <= n; i++)
		state[i] += other[i];
	PG_RETURN_ARRAYTYPE_P(a);
}

Datum
millrace_vector_avg_final(PG_FUNCTION_ARGS)
{
	int			n;
	const double *state = state_of(PG_GETARG_ARRAYTYPE_P(0), &n);
	ArrayType  *a;

	if (state[0] == 0 || n == 0)
		PG_RETURN_NULL();
	a = new_array(FLOAT4OID, sizeof(float), n);
	for (int i = 0; i < n; i++)
		((float *) ARR_DATA_PTR(a))[i] = (float) (state[i + 1] / state[0]);
	PG_RETURN_ARRAYTYPE_P(a);
}
