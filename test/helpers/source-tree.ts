import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'
import { repo } from './machine.js'

export interface Import {
  /** as written: `../errors.js`, `koffi`, `node:net` */
  specifier: string
  /** the types vanish when compiled, so this is knowledge of a shape, not of the code */
  typeOnly: boolean
}

/** A source file as the architecture test sees it. Paths are relative to the top of the tree: `src/cnm/types.ts`. */
export interface Source {
  path: string
  lines: number
  imports: Import[]
  /** every identifier, and every string literal, in the code (comments are not code) */
  words: Set<string>
}

export const readSources = (folder: string): Source[] =>
  readdirSync(join(repo, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => parseSource(posix.join(folder, name), readFileSync(join(repo, folder, name), 'utf8')))

/** The compiler's own parser: an import that it sees is one that runs. */
export function parseSource(path: string, text: string): Source {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, false, ts.ScriptKind.TS)
  const imports: Import[] = []
  const words = new Set<string>()
  const visit = (node: ts.Node): void => {
    const found = importOf(node)
    if (found) imports.push(found)
    if (ts.isIdentifier(node) || ts.isStringLiteralLike(node)) words.add(node.text)
    ts.forEachChild(node, visit)
  }
  visit(file)
  return { path, lines: text.split('\n').length - 1, imports, words }
}

function importOf(node: ts.Node): Import | undefined {
  if (ts.isImportDeclaration(node)) {
    const clause = node.importClause
    const named = clause?.namedBindings && ts.isNamedImports(clause.namedBindings) ? clause.namedBindings.elements : []
    const allTypes = !clause?.name && named.length > 0 && named.every(element => element.isTypeOnly)
    return specified(node.moduleSpecifier, clause?.phaseModifier === ts.SyntaxKind.TypeKeyword || allTypes)
  }
  if (ts.isExportDeclaration(node)) return specified(node.moduleSpecifier, node.isTypeOnly)
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
    return specified(node.arguments[0], false)
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return specified(node.argument.literal, true)
  return undefined
}

const specified = (node: ts.Node | undefined, typeOnly: boolean): Import | undefined =>
  node && ts.isStringLiteralLike(node) ? { specifier: node.text, typeOnly } : undefined

/** The file of ours that an import means: `src/errors.ts`; undefined for a package or a module of Node's. */
export const resolveImport = (from: string, specifier: string): string | undefined =>
  specifier.startsWith('.') ? posix.join(posix.dirname(from), specifier).replace(/\.js$/, '.ts') : undefined

/** A chain of files of which each imports the next and the last the first; undefined where there is none. */
export function findCycle(sources: readonly Source[]): string[] | undefined {
  const graph = new Map(sources.map(source => [source.path, importsOfOurs(source)]))
  const done = new Set<string>()
  const walk = (path: string, above: string[]): string[] | undefined => {
    if (above.includes(path)) return [...above.slice(above.indexOf(path)), path]
    if (done.has(path)) return undefined
    for (const next of graph.get(path) ?? []) {
      const cycle = walk(next, [...above, path])
      if (cycle) return cycle
    }
    done.add(path)
    return undefined
  }
  for (const path of graph.keys()) {
    const cycle = walk(path, [])
    if (cycle) return cycle
  }
  return undefined
}

/** Files of ours whose code this one needs; type-only imports do not count. */
const importsOfOurs = ({ path, imports }: Source): string[] =>
  imports.flatMap(({ specifier, typeOnly }) => (typeOnly ? [] : (resolveImport(path, specifier) ?? [])))
