import type { Diagnosis } from '../cnm/diagnosis.js'
import { type DoctorDeps, examine } from './doctor.js'
import { type ExplainDeps, explain } from './explain.js'

/** The two as the API offers them. */
export const createDiagnosis = (deps: DoctorDeps & ExplainDeps): Diagnosis => ({
  doctor: () => examine(deps),
  explain: spec => explain(deps, spec),
})
