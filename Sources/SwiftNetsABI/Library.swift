import CSwiftNets
import Glibc
import SwiftNets

nonisolated(unsafe) private let versionText = UnsafePointer<CChar>(strdup(engineVersion)!)

@_cdecl("swn_version")
public func swn_version() -> UnsafePointer<CChar>? { versionText }

@_cdecl("swn_set_threads")
public func swn_set_threads(_ count: Int32) -> swn_status {
  status { try Threads.set(Int(count)) }
}

@_cdecl("swn_get_threads")
public func swn_get_threads() -> Int32 { Int32(Threads.count) }
