/*
 * compat.h
 *	  The differences between PostgreSQL 15, 16, 17 and 18, in one place.
 *
 * Include after postgres.h.  A version test anywhere else is a mistake.
 */
#ifndef MILLRACE_COMPAT_H
#define MILLRACE_COMPAT_H

#if PG_VERSION_NUM >= 160000
#include "catalog/pg_database.h"	/* of the checks of rights below */
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "varatt.h"
#endif
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#if PG_VERSION_NUM >= 170000
#include "utils/resowner.h"
#endif

/* PG 17: wait event sets belong to a resource owner; ours live for ever. */
#if PG_VERSION_NUM >= 170000
#define CompatCreateWaitEventSet(n) CreateWaitEventSet(NULL, (n))
#else
#define CompatCreateWaitEventSet(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* PG 16: one function for the rights on every kind of object. */
#if PG_VERSION_NUM >= 160000
#define compat_server_aclcheck(server, role, mode) object_aclcheck(ForeignServerRelationId, server, role, mode)
#define compat_function_aclcheck(function, role, mode) object_aclcheck(ProcedureRelationId, function, role, mode)
#else
#define compat_server_aclcheck(server, role, mode) pg_foreign_server_aclcheck(server, role, mode)
#define compat_function_aclcheck(function, role, mode) pg_proc_aclcheck(function, role, mode)
#endif

/* PG 16: parsing a name may fail softly. */
#if PG_VERSION_NUM >= 160000
#define CompatQualifiedName(text) stringToQualifiedNameList((text), NULL)
#else
#define CompatQualifiedName(text) stringToQualifiedNameList(text)
#endif

/* PG 16: one ownership test for all kinds of objects. */
#if PG_VERSION_NUM >= 160000
#define CompatDatabaseOwner(database, role) object_ownercheck(DatabaseRelationId, (database), (role))
#else
#define CompatDatabaseOwner(database, role) pg_database_ownercheck((database), (role))
#endif

#endif							/* MILLRACE_COMPAT_H */
