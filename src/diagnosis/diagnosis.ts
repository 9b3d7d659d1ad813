import type { Diagnosis } from '../cnm/diagnosis.js'
import { type DoctorDeps, examine } from './doctor.js'

/** The two as the API offers them. */
export const createDiagnosis = (deps: DoctorDeps): Diagnosis => ({
  doctor: () => examine(deps),
})
