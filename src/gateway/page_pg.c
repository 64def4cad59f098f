/*
 * page_pg.c
 *	  The pages that the extension brings along: millrace.gateway_file(name).
 *
 * They are installed in $sharedir/extension/millrace_gateway.  Each backend keeps what it read, in
 * TopMemoryContext, for as long as the file's time and size stay the same; only the names below are ever read.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_gateway_file);

#define MAX_PAGE (1024 * 1024)

typedef struct page
{
	const char *name;
	bytea	   *content;		/* NULL: not read yet */
	struct timespec changed;
	off_t		size;
} page;

static page pages[] = {{.name = "dashboard.html"}, {.name = "docs.html"}};

static void
read_page(page *p, FILE *f, const char *path, const struct stat *st)
{
	bytea	   *content;

	if (st->st_size > MAX_PAGE)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("file \"%s\" is larger than a page may be", path)));
	content = MemoryContextAlloc(TopMemoryContext, VARHDRSZ + st->st_size);
	SET_VARSIZE(content, VARHDRSZ + st->st_size);
	if (fread(VARDATA(content), 1, st->st_size, f) != (size_t) st->st_size ||
		!pg_verify_mbstr(PG_UTF8, VARDATA(content), st->st_size, true))
	{
		pfree(content);
		ereport(ERROR, (errcode(ERRCODE_IO_ERROR), errmsg("could not read file \"%s\"", path), errdetail("It is shorter than it was, or no UTF-8.")));
	}
	if (p->content)
		pfree(p->content);
	p->content = content;
	p->changed = st->st_mtim;
	p->size = st->st_size;
}

Datum
millrace_gateway_file(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	page	   *p = NULL;
	char		share[MAXPGPATH];
	char	   *path;
	struct stat st;
	FILE	   *f;

	for (int i = 0; i < (int) lengthof(pages); i++)
		if (strcmp(name, pages[i].name) == 0)
			p = &pages[i];
	if (p == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("page \"%s\" does not exist", name),
				 errhint("There are dashboard.html and docs.html.")));
	get_share_path(my_exec_path, share);
	path = psprintf("%s/extension/millrace_gateway/%s", share, p->name);
	f = AllocateFile(path, PG_BINARY_R);
	if (f == NULL || fstat(fileno(f), &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path),
				 errhint("It is installed with the extension: run \"make install\".")));
	if (p->content == NULL || st.st_size != p->size || st.st_mtim.tv_sec != p->changed.tv_sec || st.st_mtim.tv_nsec != p->changed.tv_nsec)
		read_page(p, f, path, &st);
	FreeFile(f);
	/* the caller's own: an ERROR elsewhere, or a newer file, must not take it away */
	PG_RETURN_BYTEA_P(DatumGetByteaPCopy(PointerGetDatum(p->content)));
}
