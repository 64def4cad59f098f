/*
 * iou_pg.c
 *	  millrace.box_iou() and operator &/| for real[4] and for PostgreSQL's box.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/geo_decls.h"

PG_FUNCTION_INFO_V1(millrace_box_iou);
PG_FUNCTION_INFO_V1(millrace_box_iou_geometric);

/* Corners of a box, x1 <= x2 and y1 <= y2. */
typedef struct corners
{
	double		x1,
				y1,
				x2,
				y2;
} corners;

static double
side(double low_a, double high_a, double low_b, double high_b)
{
	return fmax(fmin(high_a, high_b) - fmax(low_a, low_b), 0);
}

/* 0 for two boxes without an area; in doubles, or large coordinates would lose the small ones. */
static float
iou(const corners *a, const corners *b)
{
	double		both = side(a->x1, a->x2, b->x1, b->x2) * side(a->y1, a->y2, b->y1, b->y2);
	double		either = (a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both;

	return either > 0 ? (float) (both / either) : 0;
}

static corners
corners_of(ArrayType *a)
{
	const float *v = (const float *) ARR_DATA_PTR(a);

	if (ARR_NDIM(a) != 1 || ARR_DIMS(a)[0] != 4 || array_contains_nulls(a))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a box must be an array of four numbers"),
				 errhint("They are x1, y1, x2, y2.")));
	for (int i = 0; i < 4; i++)
		if (!isfinite(v[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a box must have finite corners")));
	if (v[0] > v[2] || v[1] > v[3])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("box (%g, %g, %g, %g) ends before it begins", v[0], v[1], v[2], v[3]),
				 errhint("The numbers are x1, y1, x2, y2, with x1 <= x2 and y1 <= y2.")));
	return (corners) {v[0], v[1], v[2], v[3]};
}

/* millrace.box_iou(real[], real[]) -> real */
Datum
millrace_box_iou(PG_FUNCTION_ARGS)
{
	corners		a = corners_of(PG_GETARG_ARRAYTYPE_P(0));
	corners		b = corners_of(PG_GETARG_ARRAYTYPE_P(1));

	PG_RETURN_FLOAT4(iou(&a, &b));
}

/* millrace.box_iou(box, box) -> real */
Datum
millrace_box_iou_geometric(PG_FUNCTION_ARGS)
{
	BOX		   *p = PG_GETARG_BOX_P(0);
	BOX		   *q = PG_GETARG_BOX_P(1);
	corners		a = {p->low.x, p->low.y, p->high.x, p->high.y};
	corners		b = {q->low.x, q->low.y, q->high.x, q->high.y};

	PG_RETURN_FLOAT4(iou(&a, &b));
}
