import { EmbeddedPostgresError } from './error.ts'

/** For a laptop that runs other things too. Anything here can be overridden by `settings`, except what is refused. */
const DEFAULTS: Record<string, string> = {
  shared_buffers: '128MB',
  max_connections: '60',
  max_wal_size: '1GB',
  autovacuum: 'on',
  // Nobody replicates from a laptop; one process less.
  max_logical_replication_workers: '0',
  // Our statements are short: compiling and parallel plans cost more than they save.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  log_checkpoints: 'off',
}

/** What durability stands on. Acknowledged means on disk, also on a laptop, also in tests. */
const ALWAYS: Record<string, string> = { fsync: 'on', full_page_writes: 'on' }

/** Decided by where the folder is; another value would lead adoption and cleaning up astray. */
const DECIDED_HERE = new Set([
  'listen_addresses',
  'port',
  'unix_socket_directories',
  'unix_socket_permissions',
  'unix_socket_group',
  'cluster_name',
  'data_directory',
  'config_file',
  'hba_file',
  'external_pid_file',
  'logging_collector',
])

/** All settings for the command line. Throws `setting_refused`. */
export function resolveSettings(requested: Readonly<Record<string, string>>): Record<string, string> {
  for (const [name, value] of Object.entries(requested)) {
    const key = name.toLowerCase()
    if (DECIDED_HERE.has(key)) {
      throw new EmbeddedPostgresError(
        'setting_refused',
        `The setting ${name} follows from the data folder. Leave it out.`,
      )
    }
    const fixed = ALWAYS[key]
    if (fixed !== undefined && value !== fixed) {
      throw new EmbeddedPostgresError(
        'setting_refused',
        `The setting ${name} must stay ${fixed}: what Stepwell has acknowledged must survive a power failure. Leave it out.`,
      )
    }
  }
  const lowerCase = Object.fromEntries(Object.entries(requested).map(([name, value]) => [name.toLowerCase(), value]))
  return { ...DEFAULTS, ...lowerCase, ...ALWAYS }
}

/** As arguments of the postgres program: `-c name=value`. */
export function settingArguments(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}
