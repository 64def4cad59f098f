/*
 * bundle.c
 *	  A model's folder as one block of bytes: what is stored, hashed and sent.
 *
 * head | n entries | names, each with its NUL | files, each 64-byte aligned.
 * The form is canonical: names are sorted, everything lies where the lengths put
 * it, gaps are zero.  The same files give the same bytes, and
 * txt_bundle_open() takes no others.
 */
#include "text/hf_int.h"

#define MAGIC UINT64_C(0x31444e42544d524d)	/* "MRMTBND1" */
#define VERSION 1
#define MAX_NAME 255
#define ALIGN 64

typedef struct bundle_head
{
	uint64_t	magic;
	uint32_t	version;
	uint32_t	n;
	uint64_t	size;			/* of all */
} bundle_head;

typedef struct bundle_entry
{
	uint64_t	name_at,
				name_len,
				at,
				len;
} bundle_entry;

/* ---- names ---- */

/* Relative, without components that lead elsewhere, printable. */
static bool
good_name(const char *name, size_t len)
{
	size_t		from = 0;

	if (len == 0 || len > MAX_NAME || !txt_is_utf8(name, len))
		return false;
	for (size_t i = 0; i <= len; i++)
	{
		if (i < len && ((unsigned char) name[i] < ' ' || name[i] == 127 || name[i] == '\\'))
			return false;
		if (i == len || name[i] == '/')
		{
			size_t		part = i - from;

			if (part == 0 || (part == 1 && name[from] == '.') || (part == 2 && memcmp(name + from, "..", 2) == 0))
				return false;
			from = i + 1;
		}
	}
	return true;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const txt_file *) a)->name, ((const txt_file *) b)->name);
}

/* ---- the layout that the lengths give ---- */

typedef struct layout
{
	uint64_t	names,			/* where the next one lies */
				data;
} layout;

static bool
advance(uint64_t *at, uint64_t len)
{
	return !__builtin_add_overflow(*at, len, at) && *at <= UINT64_MAX - ALIGN;
}

static uint64_t
aligned(uint64_t at)
{
	return (at + ALIGN - 1) / ALIGN * ALIGN;
}

static uint64_t
first_name(int n)
{
	return sizeof(bundle_head) + (uint64_t) n * sizeof(bundle_entry);
}

/* ---- writing ---- */

mr_code
txt_bundle_write(const mr_env *env, const txt_file *files, int n, void **out, size_t *out_len, mr_status *st)
{
	txt_file	file[TXT_MAX_FILES];
	uint64_t	name_at = first_name(n),
				at = name_at,
				size;
	char	   *bytes;

	*out = NULL;
	if (n < 1 || n > TXT_MAX_FILES)
		return mr_fail(st, MR_LIMIT, "a model's folder has 1 to %d files, not %d", TXT_MAX_FILES, n);
	memcpy(file, files, (size_t) n * sizeof(txt_file));
	for (int i = 0; i < n; i++)
		if (!good_name(file[i].name, strlen(file[i].name)))
			return mr_fail(st, MR_INVALID, "file %d of the model's folder has a name that is not allowed", i + 1);
	qsort(file, (size_t) n, sizeof(txt_file), by_name);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && strcmp(file[i - 1].name, file[i].name) == 0)
		{
			mr_fail(st, MR_INVALID, "file \"%.80s\" is given twice", file[i].name);
			txt_printable(st);
			return MR_INVALID;
		}
		at += strlen(file[i].name) + 1;
	}
	size = at;
	for (int i = 0; i < n; i++)
	{
		size = aligned(size);
		if (!advance(&size, file[i].len))
			return mr_fail(st, MR_LIMIT, "the model's folder is too large");
	}
	bytes = mr_alloc(env, (size_t) size);
	if (bytes == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	memset(bytes, 0, (size_t) at);
	*(bundle_head *) bytes = (bundle_head) {.magic = MAGIC, .version = VERSION, .n = (uint32_t) n, .size = size};
	for (int i = 0; i < n; i++)
	{
		bundle_entry *e = (bundle_entry *) (bytes + sizeof(bundle_head)) + i;

		*e = (bundle_entry) {.name_at = name_at, .name_len = strlen(file[i].name), .at = aligned(at), .len = file[i].len};
		memcpy(bytes + e->name_at, file[i].name, e->name_len + 1);
		memset(bytes + at, 0, (size_t) (e->at - at));
		if (e->len > 0)
			memcpy(bytes + e->at, file[i].data, (size_t) e->len);
		name_at += e->name_len + 1;
		at = e->at + e->len;
	}
	*out = bytes;
	*out_len = (size_t) size;
	return MR_OK;
}

/* ---- reading ---- */

bool
txt_is_bundle(const void *bytes, size_t len)
{
	uint64_t	magic;

	if (len < sizeof(bundle_head))
		return false;
	memcpy(&magic, bytes, sizeof(magic));
	return magic == MAGIC;
}

static bool
all_zero(const char *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static mr_code
damaged(mr_status *st, const char *what)
{
	return mr_fail(st, MR_INVALID, "the bundle of a model's files is damaged: %s", what);
}

mr_code
txt_bundle_open(const void *bytes, size_t len, txt_bundle *b, mr_status *st)
{
	const char *p = bytes;
	bundle_head h;
	uint64_t	name_at,
				at;

	b->n = 0;
	if (!txt_is_bundle(bytes, len))
		return mr_fail(st, MR_INVALID, "the bytes are no bundle of a model's files");
	memcpy(&h, p, sizeof(h));
	if (h.version != VERSION)
		return mr_fail(st, MR_UNSUPPORTED, "the bundle of a model's files has version %u, not %d", h.version, VERSION);
	if (h.size != len)
		return damaged(st, "its length");
	if (h.n < 1 || h.n > TXT_MAX_FILES || first_name((int) h.n) > len)
		return damaged(st, "the number of files");
	name_at = first_name((int) h.n);
	for (uint32_t i = 0; i < h.n; i++)
	{
		bundle_entry e;

		memcpy(&e, p + sizeof(h) + i * sizeof(e), sizeof(e));
		if (e.name_at != name_at || e.name_len > MAX_NAME || len - name_at <= e.name_len || p[name_at + e.name_len] != '\0' ||
			!good_name(p + name_at, e.name_len) || (i > 0 && strcmp(b->file[i - 1].name, p + name_at) >= 0))
			return damaged(st, "the names of its files");
		b->file[i] = (txt_file) {.name = p + name_at, .data = p, .len = (size_t) e.len};
		name_at += e.name_len + 1;
	}
	at = name_at;
	for (uint32_t i = 0; i < h.n; i++)
	{
		bundle_entry e;

		memcpy(&e, p + sizeof(h) + i * sizeof(e), sizeof(e));
		if (e.at != aligned(at) || e.at > len || e.len > len - e.at || !all_zero(p + at, e.at - at))
			return damaged(st, "the places of its files");
		b->file[i].data = p + e.at;
		at = e.at + e.len;
	}
	if (at != len)
		return damaged(st, "its end");
	b->n = (int) h.n;
	return MR_OK;
}

const txt_file *
txt_bundle_find(const txt_bundle *b, const char *name)
{
	int			low = 0,
				high = b->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(b->file[middle].name, name);

		if (order == 0)
			return &b->file[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
