import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

// ncnn's and yyjson's sources: `-Pmfs.sources=FOLDER`, else what mobile_core's own script unpacks with Python 3.11 and pip.
val sources: Provider<String> = providers.gradleProperty("mfs.sources").orElse(
    providers.exec { commandLine("python3", rootDir.resolve("../mobile_core/get_dependencies.py").path, "sources") }
        .standardOutput.asText.map { it.trim() },
)

android {
    namespace = "mfs.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "mfs.demo"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
        externalNativeBuild {
            cmake {
                // Also in a debug build the core is optimised: figures of -O0 tell nothing.
                arguments += listOf("-DMFS_SOURCES=${sources.get()}", "-DCMAKE_BUILD_TYPE=Release", "-DMFS_UNITY=ON")
                targets += "mfs_jni"
            }
        }
    }

    externalNativeBuild {
        cmake {
            path = file("src/main/cpp/CMakeLists.txt")
            version = "3.22.1"
        }
    }

    buildTypes {
        release {
            // JNI finds mfs.core by name: nothing is renamed.
            isMinifyEnabled = false
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    // Weights do not shrink, and are copied out once.
    androidResources { noCompress += listOf("bin", "tflite", "npz") }
}

kotlin {
    compilerOptions { jvmTarget = JvmTarget.JVM_11 }
}

dependencies {
    implementation(project(":core"))
}
