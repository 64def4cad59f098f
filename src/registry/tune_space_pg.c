/*
 * tune_space_pg.c
 *	  The space of tune_model(): {"C": {"min": 0.01, "max": 100, "log": true},
 *	  "max_depth": [4, 8, null], "n_estimators": 200}.
 *
 * Values drawn from ranges are rounded to six digits, so that the parameters
 * stored are exactly those that were used.
 */
#include "postgres.h"

#include <math.h>

#include "learn/learn_int.h"
#include "miscadmin.h"
#include "registry/options.h"
#include "registry/train_json.h"
#include "registry/tune.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

typedef struct dimension
{
	const char *name;
	int			n;				/* listed values, or steps of the range; 0: any number of it */
	JsonbValue *value;			/* NULL: a range */
	double		min;
	double		max;
	double		step;			/* added, or with log multiplied; 0: none */
	bool		log;
	bool		integer;
} dimension;

struct tune_space
{
	int			n;
	dimension  *d;
};

static void
read_range(dimension *d, JsonbValue *object)
{
	const reg_option list[] = {
		REG_OPTION_IN("min", NUMBER, &d->min, -1e15, 1e15),
		REG_OPTION_IN("max", NUMBER, &d->max, -1e15, 1e15),
		REG_OPTION_IN("step", NUMBER, &d->step, 0, 1e15),
		REG_OPTION("log", BOOL, &d->log),
		REG_OPTION("int", BOOL, &d->integer),
		REG_OPTION_END
	};

	d->min = d->max = NAN;
	reg_read_options(JsonbValueToJsonb(object), psprintf("range of parameter \"%s\"", d->name), list);
	if (!(d->min < d->max) || (d->log && !(d->min > 0)) || (d->log && d->step != 0 && d->step <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" has no range", d->name),
				 errdetail("There must be a \"min\" below a \"max\"; with \"log\", \"min\" must be above 0 and \"step\", a factor, above 1."),
				 errhint("Write {\"min\": 0.01, \"max\": 10, \"log\": true}, or a list of values.")));
	if (d->step > 0)
		d->n = 1 + (int) fmin(floor((d->log ? log(d->max / d->min) / log(d->step) : (d->max - d->min) / d->step) + 1e-9),
							  TUNE_MAX_TRIALS);
}

tune_space *
tune_read_space(Jsonb *space)
{
	tune_space *s = palloc0(sizeof(tune_space));
	JsonbIterator *it;
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(space))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("space must be a JSON object of parameters"),
				 errhint("Write {\"max_depth\": [4, 8, null]} or {\"C\": {\"min\": 0.01, \"max\": 10, \"log\": true}}.")));
	s->d = palloc0(Max(JB_ROOT_COUNT(space), 1) * sizeof(dimension));
	it = JsonbIteratorInit(&space->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		dimension  *d = &s->d[s->n++];

		d->name = pnstrdup(v.val.string.val, v.val.string.len);
		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
		{
			read_range(d, &v);
			continue;
		}
		if (v.type == jbvBinary)
		{
			d->n = (int) JsonContainerSize(v.val.binary.data);
			d->value = palloc(Max(d->n, 1) * sizeof(JsonbValue));
			for (int i = 0; i < d->n; i++)
				d->value[i] = *getIthJsonbValueFromContainer(v.val.binary.data, i);
		}
		else
		{
			d->n = 1;
			d->value = palloc(sizeof(JsonbValue));
			d->value[0] = v;
		}
		if (d->n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" has no values to try", d->name)));
	}
	return s;
}

bool
tune_space_has(const tune_space *s, const char *parameter)
{
	for (int i = 0; i < s->n; i++)
		if (strcmp(s->d[i].name, parameter) == 0)
			return true;
	return false;
}

const char *
tune_unknown_parameter(const tune_space *s, const lrn_params *p)
{
	char		text[4096];
	Jsonb	   *all;

	if (lrn_params_json(p, text, sizeof(text)) >= sizeof(text))
		elog(ERROR, "parameters do not fit");
	all = json_of(text);
	for (int i = 0; i < s->n; i++)
		if (getKeyJsonValueFromContainer(&all->root, s->d[i].name, (int) strlen(s->d[i].name), NULL) == NULL)
			return s->d[i].name;
	return NULL;
}

/* A number as it is stored and used. */
static JsonbValue
number_value(double x)
{
	JsonbValue	v = {.type = jbvNumeric};

	v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf("%.6g", x)),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return v;
}

/* Value i of those that a dimension lists or steps through. */
static JsonbValue
nth_value(const dimension *d, int i)
{
	double		x;

	if (d->value)
		return d->value[i];
	x = d->log ? d->min * pow(d->step, i) : d->min + d->step * i;
	return number_value(d->integer ? round(x) : x);
}

/* 53 random bits. */
static double
uniform(lrn_rng *rng)
{
	return (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
}

static JsonbValue
random_value(const dimension *d, lrn_rng *rng)
{
	double		low = d->min,
				high = d->max + (d->integer ? 1 : 0),
				x;

	if (d->n > 0)
		return nth_value(d, (int) lrn_rng_below(rng, (uint32) d->n));
	x = d->log ? exp(log(low) + uniform(rng) * (log(high) - log(low))) : low + uniform(rng) * (high - low);
	return number_value(d->integer ? fmin(floor(x), d->max) : x);
}

static Jsonb *
combination(const tune_space *s, const JsonbValue *value)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < s->n; i++)
	{
		JsonbValue	v = value[i];

		json_push_key(&state, s->d[i].name);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb **
tune_grid(const tune_space *s, int *n)
{
	JsonbValue *value = palloc(Max(s->n, 1) * sizeof(JsonbValue));
	int64		total = 1;
	Jsonb	  **all;

	for (int i = 0; i < s->n; i++)
	{
		if (s->d[i].n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the range of parameter \"%s\" has no \"step\", so there is no grid", s->d[i].name),
					 errhint("Give a \"step\" (with \"log\", a factor), list the values, or choose \"search\": \"random\".")));
		total *= s->d[i].n;
		if (total > TUNE_MAX_TRIALS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the space has more than %d combinations", TUNE_MAX_TRIALS),
					 errhint("List fewer values, or choose \"search\": \"random\".")));
	}
	all = palloc(total * sizeof(Jsonb *));
	for (int64 t = 0; t < total; t++)
	{
		int64		rest = t;

		for (int i = s->n - 1; i >= 0; rest /= s->d[i].n, i--)
			value[i] = nth_value(&s->d[i], (int) (rest % s->d[i].n));
		all[t] = combination(s, value);
	}
	*n = (int) total;
	return all;
}

/* A combination drawn twice is drawn again; a small space may have fewer. */
Jsonb **
tune_draw(const tune_space *s, uint64 seed, int *n)
{
	JsonbValue *value = palloc(Max(s->n, 1) * sizeof(JsonbValue));
	Jsonb	  **all = palloc(*n * sizeof(Jsonb *));
	int			found = 0;
	int			misses = 0;
	lrn_rng		rng;

	lrn_rng_seed(&rng, seed, 0x7370616365);
	while (found < *n && misses < 1000)
	{
		bool		known = false;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < s->n; i++)
			value[i] = random_value(&s->d[i], &rng);
		all[found] = combination(s, value);
		for (int t = 0; t < found && !known; t++)
			known = compareJsonbContainers(&all[t]->root, &all[found]->root) == 0;
		if (known)
			misses++;
		else
			found++;
	}
	*n = found;
	return all;
}
