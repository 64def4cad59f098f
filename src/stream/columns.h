/*
 * columns.h
 *	  What both libraries ask of a target's columns.
 */
#ifndef MILLRACE_STREAM_COLUMNS_H
#define MILLRACE_STREAM_COLUMNS_H

#include "access/tupdesc.h"
#include "catalog/pg_attribute.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* May the current user insert into this column, and does it take values? */
static inline bool
kfk_insertable(Relation rel, Form_pg_attribute att)
{
	return !att->attisdropped && att->attgenerated == '\0' && att->attidentity != ATTRIBUTE_IDENTITY_ALWAYS &&
		(pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_INSERT) == ACLCHECK_OK ||
		 pg_attribute_aclcheck(RelationGetRelid(rel), att->attnum, GetUserId(), ACL_INSERT) == ACLCHECK_OK);
}

/*
 * Is the type the table's own row type, or one with the same columns in the
 * same order?  A replay goes into another table than its source.
 */
static inline bool
kfk_returns_rows_of(Oid type, Oid table)
{
	Oid			own = get_rel_type_id(table);
	TupleDesc	a,
				b;
	int			i = 0,
				k = 0;
	bool		same = true;

	if (type == own)
		return true;
	if (!OidIsValid(get_typ_typrelid(type)))
		return false;
	a = lookup_rowtype_tupdesc(type, -1);
	b = lookup_rowtype_tupdesc(own, -1);
	while (same)
	{
		Form_pg_attribute x,
					y;

		while (i < a->natts && TupleDescAttr(a, i)->attisdropped)
			i++;
		while (k < b->natts && TupleDescAttr(b, k)->attisdropped)
			k++;
		if (i == a->natts || k == b->natts)
			break;
		x = TupleDescAttr(a, i++);
		y = TupleDescAttr(b, k++);
		same = strcmp(NameStr(x->attname), NameStr(y->attname)) == 0 && x->atttypid == y->atttypid && x->atttypmod == y->atttypmod;
	}
	same = same && i == a->natts && k == b->natts;
	ReleaseTupleDesc(a);
	ReleaseTupleDesc(b);
	return same;
}

#endif							/* MILLRACE_STREAM_COLUMNS_H */
