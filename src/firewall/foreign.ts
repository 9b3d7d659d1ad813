import type { Log } from '../log.js'
import type { Runner } from './runner.js'

/** Other people's FORWARD chains accept what our own rules accepted: one rule matching our mark. Cheap when it is there already. */
export declare function ensureForeignAccept(runner: Runner, log: Log): Promise<{ added: string[] }>
/** Take our rule out of their chains; absent is fine. */
export declare function deleteForeignAccept(runner: Runner): Promise<void>
