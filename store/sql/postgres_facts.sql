-- Facts of a schema, as name and definition (store/postgres_facts.py).
WITH place AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = %(schema)s),
held AS (SELECT c.* FROM pg_class c JOIN place ON c.relnamespace = place.oid)
SELECT CASE relkind WHEN 'r' THEN 'table ' WHEN 'v' THEN 'view ' ELSE 'relation ' || relkind::text || ' ' END || relname,
       concat_ws(' ', relkind, relpersistence, CASE WHEN relrowsecurity OR relforcerowsecurity THEN 'row security' END,
                 CASE WHEN relispartition OR relhassubclass THEN 'inherits' END,
                 array_to_string(array(SELECT o FROM unnest(reloptions) AS o ORDER BY 1), ','))
  FROM held WHERE relkind NOT IN ('i', 'I')
UNION ALL
SELECT 'column ' || relname || '.' || attname,
       concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
                 (SELECT collname FROM pg_collation o WHERE o.oid = attcollation AND collname <> 'default'),
                 attgenerated, attidentity, pg_get_expr(adbin, adrelid))
  FROM held JOIN pg_attribute a ON attrelid = held.oid LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
 WHERE relkind NOT IN ('i', 'I') AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'constraint ' || relname || '.' || conname, pg_get_constraintdef(n.oid) || CASE WHEN convalidated THEN '' ELSE ' not valid' END
  FROM held JOIN pg_constraint n ON conrelid = held.oid WHERE contype <> 'n' AND relkind = 'r'
UNION ALL
SELECT 'index ' || relname, pg_get_indexdef(held.oid) || CASE WHEN indisvalid AND indisready AND indislive THEN '' ELSE ' invalid' END
  FROM held JOIN pg_index ON indexrelid = held.oid
UNION ALL
SELECT 'trigger ' || relname || '.' || tgname, pg_get_triggerdef(t.oid) || ' ' || tgenabled::text
  FROM held JOIN pg_trigger t ON tgrelid = held.oid WHERE NOT tgisinternal
UNION ALL
SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       concat_ws(' ', prokind, lanname, CASE WHEN prosecdef THEN 'security definer' END, array_to_string(proconfig, ','), prosrc)
  FROM pg_proc p JOIN place ON pronamespace = place.oid JOIN pg_language l ON l.oid = prolang
UNION ALL
SELECT 'rule ' || relname || '.' || rulename, pg_get_ruledef(r.oid)
  FROM held JOIN pg_rewrite r ON ev_class = held.oid WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'policy ' || relname || '.' || polname, polcmd::text FROM held JOIN pg_policy y ON polrelid = held.oid
UNION ALL
SELECT 'right ' || privilege_type || ' on ' || relname || ' of ' || CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END, 'granted'
  FROM held, aclexplode(relacl)
 WHERE relname NOT IN ('memo', 'memo_chunk') AND grantee <> relowner AND (privilege_type NOT IN ('SELECT', 'INSERT')
   OR privilege_type = 'INSERT' AND relname IN ('head', 'maintenance'))
UNION ALL
SELECT 'right ' || privilege_type || ' (' || attname || ') on ' || relname || ' of ' || CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END, 'granted'
  FROM held JOIN pg_attribute a ON attrelid = held.oid, aclexplode(attacl)
 WHERE relname NOT IN ('memo', 'memo_chunk') AND grantee <> relowner AND privilege_type <> 'SELECT'
   AND NOT (relname = 'head' AND attname <> 'one' AND privilege_type = 'UPDATE')
   AND NOT (relname NOT IN ('head', 'maintenance') AND privilege_type = 'INSERT')
UNION ALL
SELECT 'right CREATE on schema of ' || CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END, 'granted'
  FROM pg_namespace n JOIN place ON n.oid = place.oid, aclexplode(nspacl)
 WHERE privilege_type = 'CREATE' AND grantee <> nspowner
