/*
 * hook_pg.c
 *	  Stops workers before utility statements that a connected process would
 *	  block: DROP, RENAME and SET TABLESPACE of a database, CREATE DATABASE
 *	  from it as a template, DROP EXTENSION millrace.
 *
 * Works in every process that has the library loaded, all of them when it is
 * preloaded; elsewhere millrace.stop() or DROP DATABASE ... (FORCE) does it.
 * Only for who may run the statement; no worker comes back before the end of
 * the transaction (mr_database_hold).
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "stream/workers.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#define STOP_TIMEOUT_MS 5000

static ProcessUtility_hook_type next_hook;

/* Hold the database of that name, if it exists and the caller rules it. */
static void
hold(const char *name)
{
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && CompatDatabaseOwner(database, GetUserId()))
		(void) mr_database_hold(database, true, STOP_TIMEOUT_MS);
}

static const char *
option_text(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg)
			return defGetString(option);
	}
	return NULL;
}

static void
before_utility(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			hold(((const DropdbStmt *) statement)->dbname);
			break;
		case T_RenameStmt:
			if (((const RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				hold(((const RenameStmt *) statement)->subname);
			break;
		case T_AlterDatabaseStmt:
			if (option_text(((const AlterDatabaseStmt *) statement)->options, "tablespace"))
				hold(((const AlterDatabaseStmt *) statement)->dbname);
			break;
		case T_CreatedbStmt:
			hold(option_text(((const CreatedbStmt *) statement)->options, "template"));
			break;
		case T_DropStmt:
			if (((const DropStmt *) statement)->removeType == OBJECT_EXTENSION)
			{
				ListCell   *cell;

				foreach(cell, ((const DropStmt *) statement)->objects)
					if (strcmp(strVal(lfirst(cell)), "millrace") == 0 && superuser())
						(void) mr_database_hold(MyDatabaseId, false, STOP_TIMEOUT_MS);
			}
			break;
		default:
			break;
	}
}

static void
millrace_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
				 ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *completion)
{
	before_utility(statement->utilityStmt);
	if (next_hook)
		next_hook(statement, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, env, dest, completion);
}

void
mr_hook_init(void)
{
	if (IsBinaryUpgrade)
		return;
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = millrace_utility;
}
