/*
 * owner_pg.h
 *	  Who owns the installed extension, and running our own fixed statements
 *	  on its tables as that role.
 */
#ifndef MILLRACE_OWNER_PG_H
#define MILLRACE_OWNER_PG_H

/*
 * Is extension millrace installed here, in the version of this library, and is
 * millrace.sources its own table?  A look-alike schema made by somebody else
 * is not trusted.  Fills *owner (may be NULL); if not, *why (may be NULL) says
 * why not.  Needs a transaction.
 */
extern bool mr_extension_ready(Oid *owner, const char **why);

typedef struct mr_owner_save
{
	Oid			user;
	int			context;
	int			nest;
} mr_owner_save;

/*
 * Between these two the current user is the extension's owner, as RI triggers
 * do it, and search_path is pg_catalog, pg_temp.  Only for statements fixed in
 * our source that touch schema millrace alone.  An ERROR in between is fine:
 * the end of the transaction restores both.  begin raises 55000 if the
 * extension is not ready.
 */
extern void mr_owner_begin(mr_owner_save *save);
extern void mr_owner_end(const mr_owner_save *save);

/* '<system identifier>/<database oid>/<oid of millrace.sources>': where a
 * source's offsets are at home; palloc'd. */
extern char *mr_source_binding(void);

#endif							/* MILLRACE_OWNER_PG_H */
