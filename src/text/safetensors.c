/*
 * safetensors.c
 *	  The safetensors format: eight bytes with the length of a JSON header, the
 *	  header, the tensors' bytes.  https://huggingface.co/docs/safetensors
 *
 * As the reference implementation does, we want the tensors to fill the data
 * without overlap and without gap.  Tensors of types that no encoder has are
 * known by name only.
 */
#include "text/hf_int.h"

#include "text/text_int.h"

#define MAX_HEADER (100 << 20)	/* bytes, the reference's limit */
#define MAX_TENSORS 100000
#define MAX_WHOLE 9007199254740992.0	/* 2^53 */

static const struct
{
	const char *name;
	uint8_t		bytes;
	nn_dtype	dtype;
}			types[] = {
	{"F32", 4, nn_float32}, {"F16", 2, nn_float16}, {"BF16", 2, nn_bfloat16},
	{"F64", 8, nn_none}, {"I64", 8, nn_none}, {"U64", 8, nn_none}, {"I32", 4, nn_none}, {"U32", 4, nn_none},
	{"I16", 2, nn_none}, {"U16", 2, nn_none}, {"I8", 1, nn_none}, {"U8", 1, nn_none}, {"BOOL", 1, nn_none},
	{"F8_E4M3", 1, nn_none}, {"F8_E5M2", 1, nn_none},
};

/* ---- one tensor ---- */

static bool
read_whole(mr_json *js, uint64_t *out)
{
	double		d;

	if (!mr_json_number(js, &d))
		return false;
	if (!(d >= 0 && d <= MAX_WHOLE) || d != (double) (uint64_t) d)
		return mr_json_syntax(js, "a whole number");
	*out = (uint64_t) d;
	return true;
}

/* Any rank is read; the first four dimensions are kept. */
static bool
read_shape(mr_json *js, txt_tensor *t, uint64_t *elements)
{
	int			n = 0,
				more;

	*elements = 1;
	if (!mr_json_open(js, '['))
		return false;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		uint64_t	d;

		if (!read_whole(js, &d))
			return false;
		if (__builtin_mul_overflow(*elements, d, elements))
			return mr_json_syntax(js, "a tensor that is not so large");
		if (n <= 4)
			t->dims[n - 1] = (int64_t) d;
	}
	t->rank = n;
	return more == 0;
}

static bool
read_offsets(mr_json *js, uint64_t *begin, uint64_t *end)
{
	int			n = 0;

	if (!mr_json_open(js, '[') || mr_json_next(js, '[', &n) <= 0 || !read_whole(js, begin) ||
		mr_json_next(js, '[', &n) <= 0 || !read_whole(js, end) || mr_json_next(js, '[', &n) != 0)
		return js->st->code ? false : mr_json_syntax(js, "the two offsets of a tensor");
	return true;
}

static bool
fail_tensor(const txt_folder *f, const txt_named_tensor *t, const char *what)
{
	mr_fail(f->st, MR_INVALID, "tensor \"%.*s\" %s", (int) (t->name_len < 80 ? t->name_len : 80), t->name, what);
	return false;
}

/* data_len: bytes behind the header. */
static bool
read_tensor(const txt_folder *f, mr_json *js, uint64_t data_len, txt_named_tensor *t)
{
	char		key[16];
	int			n = 0,
				more;
	uint64_t	elements = 0;
	bool		shape = false,
				offsets = false;

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_key(js, &n, key, sizeof(key))) > 0)
	{
		if (!(strcmp(key, "dtype") == 0 ? mr_json_text(js, t->type, sizeof(t->type)) :
			  strcmp(key, "shape") == 0 ? (shape = read_shape(js, &t->tensor, &elements)) :
			  strcmp(key, "data_offsets") == 0 ? (offsets = read_offsets(js, &t->begin, &t->end)) : mr_json_skip(js)))
			return false;
	}
	if (more < 0)
		return false;
	if (!t->type[0] || !shape || !offsets)
		return fail_tensor(f, t, "lacks its dtype, shape or data_offsets");
	if (t->begin > t->end || t->end > data_len)
		return fail_tensor(f, t, "lies outside the file");
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(t->type, types[i].name) == 0)
		{
			uint64_t	bytes;

			t->tensor.dtype = types[i].dtype;
			if (__builtin_mul_overflow(elements, (uint64_t) types[i].bytes, &bytes) || bytes != t->end - t->begin)
				return fail_tensor(f, t, "has offsets that do not fit its shape");
		}
	return true;
}

/* ---- a file ---- */

static int
by_place(const void *a, const void *b)
{
	const txt_named_tensor *x = a,
			   *y = b;

	return x->begin != y->begin ? (x->begin > y->begin ? 1 : -1) : x->end != y->end ? (x->end > y->end ? 1 : -1) : 0;
}

static bool
read_header(const txt_folder *f, const txt_file *file, mr_json *js, const char *data, uint64_t data_len, txt_tensors *t)
{
	int			n = 0,
				more;
	size_t		first = t->n;
	uint64_t	at = 0;

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_next(js, '{', &n)) > 0)
	{
		txt_named_tensor *e;
		const char *name;
		size_t		len;
		bool		escaped;

		if (!mr_json_string(js, &name, &len, &escaped) || (escaped && !mr_json_unescape(js, name, len, NULL, NULL)))
			return false;
		if (mr_json_peek(js) != ':')
			return mr_json_syntax(js, "a colon");
		js->p++;
		if (len == 12 && memcmp(name, "__metadata__", 12) == 0)
		{
			if (!mr_json_skip(js))
				return false;
			continue;
		}
		if (t->n == MAX_TENSORS)
		{
			mr_fail(f->st, MR_LIMIT, "there are more than %d tensors", MAX_TENSORS);
			return false;
		}
		if (!txt_grow(f->env, (void **) &t->tensor, t->n, &t->size, sizeof(txt_named_tensor), f->st))
			return false;
		e = &t->tensor[t->n++];
		memset(e, 0, sizeof(*e));
		e->name = name;
		e->name_len = len;
		e->file = file;
		if (!read_tensor(f, js, data_len, e))
			return false;
		e->tensor.data = data + e->begin;
		if (t->n % 1024 == 0 && mr_interrupted(f->env))
		{
			mr_fail(f->st, MR_CANCELED, "canceled");
			return false;
		}
	}
	if (more < 0 || !txt_json_end(js))
		return false;
	if (t->n > first)
		qsort(t->tensor + first, t->n - first, sizeof(txt_named_tensor), by_place);
	for (size_t i = first; i < t->n; i++)
	{
		if (t->tensor[i].begin != at)
			return fail_tensor(f, &t->tensor[i], t->tensor[i].begin < at ? "overlaps another" : "has a gap before it");
		at = t->tensor[i].end;
	}
	if (at != data_len)
	{
		mr_fail(f->st, MR_INVALID, "%llu bytes behind the last tensor belong to none", (unsigned long long) (data_len - at));
		return false;
	}
	return true;
}

static bool
read_file(const txt_folder *f, const txt_file *file, txt_tensors *t)
{
	const char *p = file->data;
	uint64_t	header = 0;
	mr_json		js;

	if (file->len >= 8)
		memcpy(&header, p, 8);
	if (file->len < 8 || header > file->len - 8)
	{
		mr_fail(f->st, MR_INVALID, "the file is cut off: it has %zu bytes, its header alone %llu", file->len,
				(unsigned long long) header);
		return txt_in_file(f, file);
	}
	p += 8;
	return txt_json_begin(f, file, p, (size_t) header, MAX_HEADER, &js) &&
		(read_header(f, file, &js, p + header, file->len - 8 - header, t) || txt_in_file(f, file));
}

/* ---- several files: model.safetensors.index.json ---- */

/* The next member of weight_map: a tensor and the file it is in; as mr_json_next(). */
static int
next_weight(const txt_folder *f, mr_json *js, int *n, char *name, const txt_file **file)
{
	char		path[TXT_TEXT_SIZE];
	int			more = mr_json_key(js, n, name, TXT_TEXT_SIZE);

	if (more <= 0 || !mr_json_text(js, path, sizeof(path)))
		return more <= 0 ? more : -1;
	*file = txt_folder_find(f, path);
	if (*file == NULL)
	{
		mr_fail(f->st, MR_INVALID, "file \"%.80s\" is not in the folder", path);
		return -1;
	}
	return 1;
}

static bool
to_weight_map(mr_json *js)
{
	char		key[16];
	int			n = 0,
				more;

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_key(js, &n, key, sizeof(key))) > 0)
	{
		if (strcmp(key, "weight_map") == 0)
			return mr_json_open(js, '{');
		if (!mr_json_skip(js))
			return false;
	}
	return more == 0 ? mr_json_syntax(js, "\"weight_map\" before") : false;
}

static int
by_name(const void *a, const void *b)
{
	const txt_named_tensor *x = a,
			   *y = b;
	size_t		len = x->name_len < y->name_len ? x->name_len : y->name_len;
	int			order = memcmp(x->name, y->name, len);

	return order != 0 ? order : x->name_len < y->name_len ? -1 : x->name_len > y->name_len;
}

static bool
sort_by_name(const txt_folder *f, txt_tensors *t)
{
	if (t->n > 0)
		qsort(t->tensor, t->n, sizeof(txt_named_tensor), by_name);
	for (size_t i = 1; i < t->n; i++)
		if (by_name(&t->tensor[i - 1], &t->tensor[i]) == 0)
			return fail_tensor(f, &t->tensor[i], "is there twice") || txt_in_file(f, t->tensor[i].file);
	return true;
}

static bool
read_index(const txt_folder *f, const txt_file *index, txt_tensors *t)
{
	bool		read[TXT_MAX_FILES] = {false};
	char		name[TXT_TEXT_SIZE];
	const txt_file *file;
	mr_json		js,
				map;
	int			n = 0,
				more;

	if (!txt_json_begin(f, index, index->data, index->len, TXT_MAX_JSON, &js))
		return false;
	if (!to_weight_map(&js))
		return txt_in_file(f, index);
	map = js;
	while ((more = next_weight(f, &js, &n, name, &file)) > 0)
	{
		int			i = (int) (file - f->bundle->file);

		if (!read[i] && !read_file(f, file, t))
			return false;
		read[i] = true;
	}
	if (more < 0)
		return txt_in_file(f, index);
	if (!sort_by_name(f, t))
		return false;
	for (js = map, n = 0; next_weight(f, &js, &n, name, &file) > 0;)
	{
		const txt_named_tensor *found = txt_tensors_find(t, name);

		if (found == NULL || found->file != file)
		{
			mr_fail(f->st, MR_INVALID, "tensor \"%.80s\" is not in \"%.80s\"", name, file->name);
			return txt_in_file(f, index);
		}
	}
	return true;
}

/* ---- all of them ---- */

bool
txt_has_tensors(const txt_folder *f)
{
	return txt_folder_find(f, "model.safetensors") || txt_folder_find(f, "model.safetensors.index.json");
}

bool
txt_tensors_open(const txt_folder *f, txt_tensors *t)
{
	const txt_file *file = txt_folder_find(f, "model.safetensors");
	const txt_file *index = txt_folder_find(f, "model.safetensors.index.json");

	memset(t, 0, sizeof(*t));
	if (file)
		return read_file(f, file, t) && sort_by_name(f, t);
	if (index)
		return read_index(f, index, t);
	mr_fail(f->st, MR_INVALID, "the model's folder has no file \"%.80smodel.safetensors\"", f->dir);
	mr_hint(f->st, "Save the model with save_pretrained(folder) of transformers, which writes it.");
	return false;
}

void
txt_tensors_free(const mr_env *env, txt_tensors *t)
{
	mr_free(env, t->tensor);
	t->tensor = NULL;
}

const txt_named_tensor *
txt_tensors_find(const txt_tensors *t, const char *name)
{
	txt_named_tensor key = {.name = name, .name_len = strlen(name)};

	return t->n == 0 ? NULL : bsearch(&key, t->tensor, t->n, sizeof(key), by_name);
}

/* ---- numbers ---- */

/* Moving exponent and mantissa into float32's places leaves a factor of 2^112, which is exact for subnormals too. */
static float
half_to_float(uint16_t h)
{
	uint32_t	bits = (uint32_t) (h & 0x7fff) << 13;
	float		f;

	memcpy(&f, &bits, 4);
	f *= 0x1p112f;
	memcpy(&bits, &f, 4);
	if ((h & 0x7c00) == 0x7c00)
		bits |= 0x7f800000;
	bits |= (uint32_t) (h & 0x8000) << 16;
	memcpy(&f, &bits, 4);
	return f;
}

void
txt_tensor_floats(const txt_tensor *t, int64_t at, int64_t n, float *out)
{
	const char *p = (const char *) t->data + at * (t->dtype == nn_float32 ? 4 : 2);

	if (t->dtype == nn_float32)
	{
		memcpy(out, p, (size_t) n * 4);
		return;
	}
	for (int64_t i = 0; i < n; i++)
	{
		uint16_t	h;

		memcpy(&h, p + i * 2, 2);
		if (t->dtype == nn_float16)
			out[i] = half_to_float(h);
		else
		{
			uint32_t	bits = (uint32_t) h << 16;

			memcpy(&out[i], &bits, 4);
		}
	}
}
