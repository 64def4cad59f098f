/*
 * similarity_pg.c
 *	  cosine_similarity(), the functions of the operators <=>, <-> and <#> on real[].
 *
 * Elements are not looked at one by one: a sum in doubles of finite floats is finite.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "text/similarity_pg.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(millrace_cosine_similarity);
PG_FUNCTION_INFO_V1(millrace_array_cosine_distance);
PG_FUNCTION_INFO_V1(millrace_array_l2_distance);
PG_FUNCTION_INFO_V1(millrace_array_negative_inner_product);

const float *
sim_array(const ArrayType *array, int *n)
{
	int			ndim = ARR_NDIM(array);

	if (ndim == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("a vector must have at least one element")));
	if (ndim != 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("a vector must be an array of one dimension, not %d", ndim)));
	if (ARR_HASNULL(array) && array_contains_nulls((ArrayType *) array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a vector must not contain NULLs")));
	*n = ARR_DIMS(array)[0];
	return (const float *) ARR_DATA_PTR(array);
}

void
sim_check_finite(const float *vector, int n)
{
	for (int i = 0; i < n; i++)
		if (!isfinite(vector[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("a vector must not contain %s", isnan(vector[i]) ? "NaN" : "infinity"),
					 errdetail("Element %d is %s.", i + 1, isnan(vector[i]) ? "NaN" : "infinite")));
}

void
sim_different(int a, int b)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("vectors have different dimensions: %d and %d", a, b),
			 errhint("Vectors of different models cannot be compared.")));
}

/* Two arguments, of one dimension. */
typedef struct pair
{
	const float *a,
			   *b;
	int			n;
} pair;

static inline pair
arguments(FunctionCallInfo fcinfo)
{
	pair		p;
	int			other;

	p.a = sim_array(PG_GETARG_ARRAYTYPE_P(0), &p.n);
	p.b = sim_array(PG_GETARG_ARRAYTYPE_P(1), &other);
	if (other != p.n)
		sim_different(p.n, other);
	return p;
}

static inline double
checked(double sum, const pair *p)
{
	if (unlikely(!isfinite(sum)))
	{
		sim_check_finite(p->a, p->n);
		sim_check_finite(p->b, p->n);
	}
	return sum;
}

static double
cosine_distance(FunctionCallInfo fcinfo)
{
	pair		p = arguments(fcinfo);
	double		distance = sim_distance(SIM_COSINE, p.a, p.b, p.n);

	return checked(distance, &p);
}

Datum
millrace_cosine_similarity(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT4((float) (1 - cosine_distance(fcinfo)));
}

Datum
millrace_array_cosine_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(cosine_distance(fcinfo));
}

Datum
millrace_array_l2_distance(PG_FUNCTION_ARGS)
{
	pair		p = arguments(fcinfo);

	PG_RETURN_FLOAT8(checked(sim_distance(SIM_L2, p.a, p.b, p.n), &p));
}

Datum
millrace_array_negative_inner_product(PG_FUNCTION_ARGS)
{
	pair		p = arguments(fcinfo);

	PG_RETURN_FLOAT8(checked(sim_distance(SIM_INNER, p.a, p.b, p.n), &p));
}
